// The code of a link stands behind the # of its address, which browsers send to nobody. This hands it over once.
const code = location.hash.slice(1);
const form = document.querySelector("form.enter");
if (code && form) {
  // Out of the address, so that it is not in the history or on a shared screen.
  history.replaceState(null, "", location.pathname);
  form.elements.code.value = code;
  form.requestSubmit();
}
