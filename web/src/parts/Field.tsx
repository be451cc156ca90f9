import type { ComponentChildren } from "preact";

/** A label over its control. */
export function Field({ label, hint, children }: { label: string; hint?: string; children: ComponentChildren }) {
  return (
    <label class="field">
      <span>{label}</span>
      {children}
      {hint && <small class="dim">{hint}</small>}
    </label>
  );
}
