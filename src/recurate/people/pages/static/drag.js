// Dragging with a mouse, a pen or a finger: a label of what is dragged follows the pointer.
"use strict";
const TREMBLE = 6; // pixels up to which a hand that clicks may move

// Let something be dragged by an element. ``own`` has may(event), whether it can be now; label(), what follows the
// pointer; over(x, y), called on the way; drop(x, y), called at the end, or without a place where it is given up.
function draggable(grip, own) {
  grip.addEventListener("pointerdown", (first) => {
    if (first.button || !first.isPrimary || !own.may(first)) return;
    const stop = new AbortController();
    let label = null;

    function move(event) {
      if (event.pointerId !== first.pointerId) return;
      const [x, y] = [event.clientX, event.clientY];
      if (!label && Math.hypot(x - first.clientX, y - first.clientY) < TREMBLE) return;
      if (!label) {
        label = own.label();
        label.classList.add("dragged");
        document.body.append(label);
        if (grip.isConnected) grip.setPointerCapture(event.pointerId);
      }
      label.style.transform = `translate(${x}px, ${y}px) translate(-50%, -120%)`;
      own.over(x, y);
    }

    function end(event, dropped) {
      stop.abort();
      if (!label) return;
      label.remove();
      if (event.type === "pointerup") swallow();
      if (dropped) own.drop(event.clientX, event.clientY);
      else own.drop();
    }

    const on = (kind, act) => window.addEventListener(kind, act, { signal: stop.signal, capture: true });
    on("pointermove", move);
    on("pointerup", (event) => event.pointerId === first.pointerId && end(event, true));
    on("pointercancel", (event) => event.pointerId === first.pointerId && end(event, false));
    on("keydown", (event) => {
      if (event.key !== "Escape") return;
      if (label) event.stopPropagation();
      end(event, false);
    });
  });
}

// The click that ends a drag is none.
function swallow() {
  const stop = new AbortController();
  const none = (event) => {
    event.stopPropagation();
    event.preventDefault();
  };
  window.addEventListener("click", none, { signal: stop.signal, capture: true });
  setTimeout(() => stop.abort());
}
