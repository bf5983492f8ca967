// The field for the API key.
import { byId, write } from "./elements.js";
import { key } from "./service.js";

export function setUpKey(changed) {
  const dialog = byId("key"), field = byId("secret");
  const told = () => {
    write(byId("open-key"), key.value ? "API key ✓" : "API key");
    byId("open-key").setAttribute("aria-label", key.value ? "API key, one is set" : "API key, none is set");
  };
  const finish = (secret) => {
    key.value = secret;
    field.value = "";
    dialog.close();
    told();
    changed();
  };
  byId("open-key").addEventListener("click", () => { field.value = key.value; dialog.showModal(); field.select(); });
  byId("key-form").addEventListener("submit", (event) => { event.preventDefault(); finish(field.value.trim()); });
  // What was shown with the key goes with it.
  byId("forget").addEventListener("click", () => { key.value = ""; location.reload(); });
  byId("close-key").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => { field.value = ""; });
  told();
}
