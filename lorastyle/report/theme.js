"use strict";
// The reader's system chooses the theme; the button overrules it for this visit.
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
// Figures and settings wider than the window scroll within themselves; who has no mouse gets into them by Tab.
const scrolls = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const wide = target.scrollWidth > target.clientWidth;
    const heading = target.closest("section")?.querySelector("h2");
    const label = heading ? `${heading.textContent}, scrolls sideways` : "Scrolls sideways";
    for (const [name, value] of Object.entries({ tabindex: "0", role: "region", "aria-label": label }))
      wide ? target.setAttribute(name, value) : target.removeAttribute(name);
  }
});
for (const box of document.querySelectorAll(".pairs, details pre")) scrolls.observe(box);
