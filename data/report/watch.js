"use strict";
// Reloads the page of a running run when there is a new version. Restores open folds and the scroll position.
(() => {
  const version = document.documentElement.dataset.version, seconds = 5, kept = "mathquarry-watch";
  const folds = () => [...document.querySelectorAll("details")];

  const before = JSON.parse(sessionStorage.getItem(kept) || "null");
  if (before) {
    sessionStorage.removeItem(kept);
    const open = new Set(before.open);
    folds().forEach((fold) => { fold.open = open.has(name(fold)); });
    scrollTo(0, before.top);
  }

  // A fold is identified by its section and summary, because new folds may appear before it.
  function name(fold) {
    return (fold.closest("section") || document.body).id + ": " + fold.querySelector("summary").textContent;
  }

  const look = async () => {
    try {
      const answer = await fetch("version", { cache: "no-store" });
      if (answer.ok && (await answer.text()) !== version) {
        sessionStorage.setItem(kept, JSON.stringify({ open: folds().filter((fold) => fold.open).map(name), top: scrollY }));
        location.reload();
        return;
      }
    } catch {
      // No answer: the command was stopped, or the machine is asleep. Keep the page, and try again.
    }
    setTimeout(look, 1000 * seconds);
  };
  setTimeout(look, 1000 * seconds);
})();
