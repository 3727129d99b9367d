"use strict";
(() => {
  document.documentElement.classList.add("live");

  // A view: the border between two pictures, the zoom, and which of several frames is shown.
  for (const view of document.querySelectorAll(".view")) {
    const all = (selector) => [...view.querySelectorAll(selector)];
    const holder = view.querySelector(".holder");
    const pane = view.querySelector(".window");
    const stage = view.querySelector(".stage");
    const place = view.querySelector(".place");
    const plane = view.querySelector(".which-frame");
    const frames = all(".frame");

    const drawBorder = () => {
      // The border keeps its place in the window; the pictures under it may be scrolled.
      const share = place.value / 100;
      const left = stage.getBoundingClientRect().left - pane.getBoundingClientRect().left;
      stage.style.setProperty("--cut", `${share * pane.clientWidth - left}px`);
      holder.style.setProperty("--place", `${share * pane.clientWidth}px`);
      place.setAttribute("aria-valuetext", `${Math.round(place.value)} % from the left`);
    };

    const zoomTo = (zoom, x, y) => {
      for (const input of all(".zoom input")) input.checked = Number(input.value) === zoom;
      // At 1x a pixel of the result is one of the screen.
      const width = (zoom * view.dataset.width) / window.devicePixelRatio;
      stage.style.setProperty("--shown", zoom ? `${width}px` : "100%");
      stage.classList.toggle("near", zoom > 1);
      pane.scrollLeft = x * stage.offsetWidth - pane.clientWidth / 2;
      pane.scrollTop = y * stage.offsetHeight - pane.clientHeight / 2;
      drawBorder();
    };

    const middle = () => [
      (pane.scrollLeft + pane.clientWidth / 2) / stage.offsetWidth,
      (pane.scrollTop + pane.clientHeight / 2) / stage.offsetHeight,
    ];

    const choose = () => {
      const layer = Number(view.querySelector(".which input:checked").value);
      const number = plane ? Number(plane.value) : 0;
      frames.forEach((frame, index) => frame.classList.toggle("off", index !== number));
      all(".about").forEach((about, index) => about.classList.toggle("off", index !== number));
      for (const frame of frames) {
        [...frame.querySelectorAll(".layer")].forEach((one, index) =>
          one.classList.toggle("off", index !== 0 && index !== layer));
      }
      const caption = frames[number].querySelectorAll("figcaption")[layer];
      view.querySelector(".tag.after").textContent = caption.firstElementChild.textContent;
      view.querySelector(".legend").textContent = caption.lastElementChild.textContent;
      if (plane) {
        const name = frames[number].querySelector(".frame-name").textContent;
        plane.setAttribute("aria-valuetext", name);
      }
    };

    const moveTo = (clientX) => {
      const box = pane.getBoundingClientRect();
      place.value = (100 * (clientX - box.left)) / pane.clientWidth;
      drawBorder();
    };

    // The border follows the pointer. Elsewhere the mouse moves an enlarged picture; touch does so
    // by itself.
    holder.addEventListener("pointerdown", (down) => {
      const onBorder = down.target.classList.contains("border");
      const enlarged = pane.scrollWidth > pane.clientWidth || pane.scrollHeight > pane.clientHeight;
      if (down.button !== 0 || (!onBorder && down.pointerType !== "mouse")) return;
      const inside = down.clientX < pane.getBoundingClientRect().left + pane.clientWidth;
      if (!onBorder && !inside) return; // on a scrollbar
      const [left, top] = [pane.scrollLeft, pane.scrollTop];
      const follow = (move) => {
        if (onBorder || !enlarged) return moveTo(move.clientX);
        pane.scrollTo(left + down.clientX - move.clientX, top + down.clientY - move.clientY);
      };
      if (!onBorder && !enlarged) moveTo(down.clientX);
      holder.setPointerCapture(down.pointerId);
      holder.addEventListener("pointermove", follow);
      const end = () => holder.removeEventListener("pointermove", follow);
      holder.addEventListener("pointerup", end, { once: true });
      holder.addEventListener("pointercancel", end, { once: true });
    });

    place.addEventListener("input", drawBorder);
    pane.addEventListener("scroll", drawBorder);
    new ResizeObserver(drawBorder).observe(holder);
    for (const input of all(".which input")) input.addEventListener("change", choose);
    for (const input of all(".zoom input")) {
      input.addEventListener("change", () => zoomTo(Number(input.value), ...middle()));
    }
    for (const button of all(".marks button")) {
      button.addEventListener("click", () => {
        zoomTo(2, Number(button.dataset.x), Number(button.dataset.y));
        pane.focus();
      });
    }
    if (plane) plane.addEventListener("input", choose);
    choose();
    drawBorder();
  }

  // A table that can be sorted: numbers by their values, with missing ones last; else by the text.
  for (const table of document.querySelectorAll(".sortable")) {
    const body = table.tBodies[0];
    const heads = [...table.querySelectorAll("th")];
    heads.forEach((head, index) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      const rows = [...body.rows];
      const numbers = rows.some((row) => row.cells[index].dataset.value !== undefined);
      const number = (row) => Number(row.cells[index].dataset.value ?? NaN);
      const text = (row) => row.cells[index].textContent;
      rows.sort((one, other) => {
        if (!numbers) return sign * text(one).localeCompare(text(other), "en", { numeric: true });
        const [a, b] = [number(one), number(other)];
        return isNaN(a) ? (isNaN(b) ? 0 : 1) : isNaN(b) ? -1 : sign * (a - b);
      });
      body.append(...rows);
    }));
  }
})();
