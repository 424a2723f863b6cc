// Before the page is drawn: dark, light, or as the system says.
"use strict";
{
  const THEMES = ["auto", "dark", "light"];
  const kept = () => {
    try { return localStorage.getItem("weir-theme"); } catch { return null; }
  };
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new CustomEvent("weir-theme"));
  };
  show(THEMES.includes(kept()) ? kept() : "auto");
  window.weirNextTheme = () => {
    const at = THEMES.indexOf(document.documentElement.dataset.theme);
    const next = THEMES[(at + 1) % THEMES.length];
    try { localStorage.setItem("weir-theme", next); } catch { /* Then it lasts as long as the page. */ }
    show(next);
    return next;
  };
}
