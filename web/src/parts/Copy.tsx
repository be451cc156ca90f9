import { useState } from "preact/hooks";

interface Props {
  text: string;
  name?: string;
  /** Of what, for who hears it, where `name` alone says too little. */
  of?: string;
}

/** Copies `text`; says for a moment whether it did. */
export function Copy({ text, name = "Copy", of }: Props) {
  const [said, setSaid] = useState<string | null>(null);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("Copied");
    } catch {
      setSaid("Not allowed");
    }
    setTimeout(() => setSaid(null), 1_500);
  };
  return (
    <button type="button" class="small" onClick={() => void copy()}>
      <span aria-live="polite">{said ?? name}</span>
      {of && <span class="hidden"> {of}</span>}
    </button>
  );
}
