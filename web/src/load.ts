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

interface Action {
  busy: boolean;
  problem: Problem | null;
  /** Does `work`; answers whether it was done. What it answers goes to `done`. */
  run: <T>(work: () => Promise<T>, done?: (result: T) => void) => Promise<boolean>;
}

/** A change somebody asks for, one at a time, and the problem of the last one. */
export function useAction(): Action {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const run: Action["run"] = async (work, done) => {
    setBusy(true);
    try {
      const result = await work();
      setProblem(null);
      done?.(result);
      return true;
    } catch (error) {
      setProblem(refusalOf(error));
      return false;
    } finally {
      setBusy(false);
    }
  };
  return { busy, problem, run };
}
