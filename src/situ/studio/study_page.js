() => {
  const answers = { ArrowLeft: "left", ArrowDown: "neither", ArrowRight: "right", 1: "left", 2: "neither", 3: "right" };
  const large = () => document.querySelector(".study .large");

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") large()?.classList.remove("large");
    const button = document.getElementById(answers[event.key]);
    // a key that is held down must not vote on pairs that nobody has looked at
    if (!button || event.repeat || event.ctrlKey || event.altKey || event.metaKey || large()) return;
    event.preventDefault();
    button.click();
  });

  document.addEventListener("click", (event) => {
    const picture = event.target.closest?.(".study .enlarge");
    const open = large();
    if (open && open !== picture) open.classList.remove("large");
    picture?.classList.toggle("large");
  });
}
