import { defineConfig } from "vite";

// `npm run dev` serves the console on its own; the API is that of a node on this machine.
const node = process.env["MQUEUE_URL"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  base: "/console/",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    // The content policy allows no data: scripts and no inline styles.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/v1": node, "/readyz": node } },
});
