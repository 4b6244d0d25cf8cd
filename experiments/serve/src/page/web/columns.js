// The heads of the columns: which model answers there, and how it samples.

import { $, count, h, shown } from "./dom.js";
import { SAMPLING, column, save, settings } from "./settings.js";
import { samplingInWords } from "./view.js";

let models = [];

/** Shows the columns for these models; the first two models are compared unless the viewer chose otherwise. */
export function showColumns(served) {
  models = served;
  const known = settings.columns.filter((some) => models.some((model) => model.id === some.model));
  settings.columns = known;
  if (known.length === 0) {
    settings.columns = models.slice(0, 2).map((model) => column({ ...SAMPLING, model: model.id }));
  }
  draw();
}

function draw() {
  const heads = settings.columns.map((_, i) => head(i));
  const box = $("columns");
  box.className = `columns heads n${heads.length}`;
  if (heads.length === 1) {
    const add = h("button", { type: "button", id: "add-column", onclick: () => {
      const other = models.find((model) => model.id !== settings.columns[0].model) || models[0];
      settings.columns.push(column({ ...settings.columns[0], model: other.id }));
      save();
      draw();
      $("columns").querySelector(".column.b select, .column.b summary").focus();
    } }, "Compare with a second column");
    heads.push(h("p", { class: "add" }, add));
  }
  box.replaceChildren(...heads);
}

function head(i) {
  const letter = "AB"[i];
  const chosen = settings.columns[i];
  const info = h("p", { class: "info soft" });
  const describe = () => {
    info.textContent = inWords(models.find((model) => model.id === chosen.model));
    info.title = info.textContent;
  };
  let menu = h("b", { class: "only" }, shown(chosen.model));
  if (models.length > 1) {
    const entries = models.map(({ id }) => h("option", { value: id, selected: id === chosen.model }, shown(id)));
    menu = h("select", { "aria-label": `Model of column ${letter}` }, ...entries);
    menu.addEventListener("change", () => {
      chosen.model = menu.value;
      save();
      describe();
    });
  }
  describe();
  const pick = h("p", { class: "pick" }, h("span", { class: "swatch" }, letter), menu);
  if (settings.columns.length > 1) {
    pick.append(h("button", { type: "button", class: "quiet", "aria-label": `Remove column ${letter}`, onclick: () => {
      settings.columns.splice(i, 1);
      save();
      draw();
      $("add-column").focus();
    } }, "Remove"));
  }
  return h("section", { class: `column ${letter.toLowerCase()}`, "aria-label": `Column ${letter}` }, pick, info,
    sampling(chosen, letter));
}

function inWords(model) {
  if (!model) return "";
  const { encoders, connector, llm, parameters, image_tokens, device } = model.info;
  const parts = [];
  if (Array.isArray(encoders) && encoders.length > 0) parts.push(encoders.map(shown).join(" + "));
  if (connector) parts.push(shown(connector));
  if (llm) parts.push(shown(llm));
  if (parameters > 0) parts.push(`${count(parameters)} parameters`);
  if (image_tokens > 0) parts.push(`${image_tokens} image tokens`);
  if (device) parts.push(shown(device));
  return parts.join(" · ");
}

function sampling(chosen, letter) {
  const summary = h("summary", {}, samplingInWords(chosen));
  const set = (name, value) => {
    Object.assign(chosen, column({ ...chosen, [name]: value }));
    save();
    summary.textContent = samplingInWords(chosen);
    return chosen[name];
  };
  const slider = (name, text, least) => {
    const id = `${name}-${letter}`;
    const output = h("output", { for: id }, String(chosen[name]));
    const range = h("input", { type: "range", id, min: least, max: "1", step: "0.05", value: String(chosen[name]) });
    range.addEventListener("input", () => {
      output.textContent = String(set(name, range.value));
    });
    return [h("label", { for: id }, text), range, output];
  };
  const field = (name, text, placeholder) => {
    const id = `${name}-${letter}`;
    const input = h("input", { type: "text", id, inputMode: "numeric", value: String(chosen[name]), placeholder,
      autocomplete: "off" });
    input.addEventListener("change", () => {
      input.value = String(set(name, input.value.trim()));
    });
    return [h("label", { for: id }, text), input, h("span")];
  };
  return h("details", { class: "sampling" }, summary, h("div", { class: "grid" },
    ...slider("temperature", "Temperature", "0"), ...slider("topP", "Top-p", "0.05"),
    ...field("maxTokens", "Maximum tokens", ""), ...field("seed", "Seed", "new for each answer")));
}
