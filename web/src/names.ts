import { latest } from "./api/live";

/** The namespaces the token names, and those that have topics. */
export function namespaces(): string[] {
  const now = latest.value;
  return [...new Set([...(now?.namespaces ?? []), ...(now?.topics ?? []).map((row) => row.namespace)])].sort();
}

/** The topics of a namespace. */
export function topics(namespace: string): string[] {
  const rows = latest.value?.topics ?? [];
  return rows.filter((row) => row.namespace === namespace).map((row) => row.topic);
}
