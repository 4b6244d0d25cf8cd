// Runs before the page is drawn, so that a chosen colour scheme does not flash.
"use strict";
(() => {
  try {
    const theme = JSON.parse(localStorage.getItem("burgess.chat.1") || "{}").theme;
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // No storage, or not ours: the system's scheme.
  }
})();
