"use strict";
// Loads the list of studies again when it has changed, while the page is visible.
(() => {
  let known = "";
  const look = async () => {
    if (document.hidden) return;
    try {
      const response = await fetch("/version");
      if (!response.ok) return;
      const found = await response.text();
      if (known && found !== known) location.reload();
      known = found;
    } catch {
      // The server has ended; the page stays as it is.
    }
  };
  look();
  setInterval(look, 5000);
})();
