// The consent form: the browser asks for the tick before it sends anything, and sends it once.
"use strict";
const agree = document.querySelector("input[name=agree]");
const form = document.querySelector("form");
if (form) form.addEventListener("submit", () => { for (const button of form.querySelectorAll("button")) setTimeout(() => { button.disabled = true; }); });
if (agree) agree.required = !agree.closest("[hidden]");
