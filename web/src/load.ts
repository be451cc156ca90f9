import { useEffect, useState } from "preact/hooks";
import { type Problem, refusalOf } from "./api/client";

interface Loaded<T> {
  data: T | null;
  problem: Problem | null;
  again: () => void;
}

/** What `read` answers, read anew when `key` changes; an answer that comes after that is not looked at. */
export function useLoad<T>(key: string, read: () => Promise<T>): Loaded<T> {
  const [data, setData] = useState<T | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let current = true;
    read().then(
      (value) => {
        if (!current) return;
        setData(value);
        setProblem(null);
      },
      (error: unknown) => {
        if (current) setProblem(refusalOf(error));
      },
    );
    return () => {
      current = false;
    };
  }, [key, turn]);
  return { data, problem, again: () => setTurn((now) => now + 1) };
}
