// The consent form: the browser asks for the tick before it sends anything.
"use strict";
const agree = document.querySelector("input[name=agree]");
if (agree) agree.required = !agree.closest("[hidden]");
