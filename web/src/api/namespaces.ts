import { useLoad } from "../load";
import { answer, api, type Schema } from "./client";
import { tick } from "./history";

export type Namespace = Schema["NamespaceDetail"];

const EVERY_S = 3;
/** As many as one answer has: they are read again and again. */
const MOST = 1_000;

/** The first namespaces that the token opens and that have topics or settings, each with its quota, by name. */
export function useNamespaces(): Namespace[] | null {
  const read = () => answer(api.GET("/v1/namespaces", { params: { query: { limit: MOST } } }));
  return useLoad("namespaces", read, String(Math.floor(tick.value / EVERY_S))).data?.namespaces ?? null;
}

/** What of the quota of a namespace is used most, as a share, and in words; nothing where there is no limit. */
export function fullest(quota: Schema["Quota"]): { share: number; what: string } | null {
  const shares = [
    ["of the rate", quota.limited ? (quota.burst ?? 0) - (quota.remaining ?? 0) : 0, quota.limited ? quota.burst : 0],
    ["of the stored bytes", quota.stored_bytes, quota.stored_bytes_max],
    ["of the items with consumers", quota.leases, quota.leases_max],
  ] as const;
  let most: { share: number; what: string } | null = null;
  for (const [what, used, limit] of shares) {
    if (!limit) continue;
    const share = (used ?? 0) / limit;
    if (!most || share > most.share) most = { share, what };
  }
  return most;
}
