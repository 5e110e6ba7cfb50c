// Cards to choose from: `value` is a list of {name, src, note}. Choosing one triggers "select" with its name.
const shelf = element.querySelector(".cards");

const card = () => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(document.createElement("img"), document.createElement("b"), document.createElement("small"));
  button.querySelector("img").alt = "";
  button.addEventListener("click", () => trigger("select", { name: button.dataset.name }));
  return button;
};

const draw = () => {
  const cards = Array.isArray(props.value) ? props.value : [];
  while (shelf.children.length > cards.length) shelf.lastChild.remove();
  while (shelf.children.length < cards.length) shelf.append(card());
  cards.forEach(({ name, src, note }, i) => {
    const button = shelf.children[i];
    const [picture, title, more] = button.children;
    button.dataset.name = name;
    button.title = note ? `${name}: ${note}` : name;
    if (picture.getAttribute("src") !== src) src ? (picture.src = src) : picture.removeAttribute("src");
    title.textContent = name;
    more.textContent = note;
  });
};

draw();
watch("value", draw);
