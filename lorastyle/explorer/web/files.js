"use strict";
// Where the page's data come from: elements of the page itself or, in a folder, scripts beside it.
window.lorastyle = { files: {} };

// The value named `name`. A page opened from disk may not fetch, but it may add a script.
lorastyle.load = (name) => {
  const inside = document.getElementById(`file-${name}`);
  if (inside) return Promise.resolve(JSON.parse(inside.textContent));
  if (name in lorastyle.files) return Promise.resolve(lorastyle.files[name]);
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `data/${name}.js`;
    script.onload = () => resolve(lorastyle.files[name]);
    script.onerror = () => reject(new Error(`data/${name}.js is missing; copy the whole folder`));
    document.head.append(script);
  });
};

// Little-endian float32 in base64.
lorastyle.floats = (text) => {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Float32Array(bytes.buffer);
};
