// The button for what is chosen is usable once something is.
const form = document.querySelector("form.choice");
const button = form?.querySelector("button");
const update = () => { button.disabled = !form.querySelector("input:checked"); };
if (button) {
  form.addEventListener("change", update);
  // The browser restores what was chosen when one comes back.
  addEventListener("pageshow", update);
  update();
}
