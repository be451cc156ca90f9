import { useEffect, useRef, useState } from "preact/hooks";
import { type Problem, refusalOf } from "./api/client";

interface Loaded<T> {
  data: T | null;
  problem: Problem | null;
  again: () => void;
}

/**
 * What `read` answers. It is read anew when `key`, what is looked at, or `version`, how it is, changes. An answer about
 * another key is not shown, nor one that a later answer overtook; but a slow one is, although the version moved on.
 */
export function useLoad<T>(key: string, read: () => Promise<T>, version = ""): Loaded<T> {
  const [shown, setShown] = useState<{ key: string; data: T | null; problem: Problem | null } | null>(null);
  const [turn, setTurn] = useState(0);
  const asked = useRef({ key, number: 0, answered: 0 });
  useEffect(() => {
    const state = asked.current;
    state.key = key;
    state.number += 1;
    const { number } = state;
    const show = (data: T | null, problem: Problem | null): void => {
      if (state.key !== key || number < state.answered) return;
      state.answered = number;
      setShown({ key, data, problem });
    };
    read().then(
      (data) => show(data, null),
      (error: unknown) => show(null, refusalOf(error)),
    );
  }, [key, version, turn]);
  const current = shown?.key === key ? shown : null;
  return { data: current?.data ?? null, problem: current?.problem ?? null, again: () => setTurn((now) => now + 1) };
}
