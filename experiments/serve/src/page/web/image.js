// The image of the conversation: by file, drop, paste or example. Its bytes are sent as they are.

import { bytes } from "./dom.js";

/** Reads an image file: { name, type, size, width, height, url, digest }; width and height are null if unknown. */
export async function readImage(file, name) {
  const url = await dataUrl(file);
  const [width, height] = await measure(url);
  return { name: name || file.name || "pasted image", type: file.type, size: file.size, width, height, url,
    digest: await digest(file) };
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => {
      // A file without a known type gets one that the API accepts; the server looks at the bytes.
      const data = String(reader.result);
      resolve(data.startsWith("data:image/") ? data : `data:image/unknown;base64,${data.slice(data.indexOf(",") + 1)}`);
    };
    reader.onerror = () => reject(new Error(`${file.name || "the image"} cannot be read`));
    reader.readAsDataURL(file);
  });
}

/** Size in pixels, or nulls for formats that this browser cannot decode. */
function measure(url) {
  return new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve([image.naturalWidth, image.naturalHeight]);
    image.onerror = () => resolve([null, null]);
    image.src = url;
  });
}

/** SHA-256 in hexadecimal, or null where the browser offers none: on pages that are not from this machine or HTTPS. */
async function digest(file) {
  if (!globalThis.crypto || !crypto.subtle) return null;
  const hash = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Size of an image in words. */
export function facts(image) {
  const pixels = image.width === null ? "" : `${image.width} × ${image.height} px · `;
  return `${pixels}${bytes(image.size)}`;
}

/** The first image among the files of a drop or a paste. */
export function imageAmong(transfer) {
  const files = [...(transfer ? transfer.files : [])];
  return files.find((file) => file.type.startsWith("image/")) || null;
}

/** Whether a drag carries files. */
export function carriesFiles(transfer) {
  return transfer !== null && [...transfer.types].includes("Files");
}
