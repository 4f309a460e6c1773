"use strict";
// Loads the page of a running run again when there is something new, and puts back what was open and where one was reading.
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

  // A fold goes by its section and its first line, since others may come in before it.
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
      // Nobody answers: the command was stopped, or the machine sleeps. The page stays as it is.
    }
    setTimeout(look, 1000 * seconds);
  };
  setTimeout(look, 1000 * seconds);
})();
