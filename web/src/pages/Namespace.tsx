import { answer, api, type Schema } from "../api/client";
import { tick } from "../api/history";
import * as format from "../format";
import { useLoad } from "../load";
import { ProblemNote } from "../parts/Note";
import { Settings } from "../parts/Settings";
import { Tile } from "../parts/Tile";
import { href } from "../router";

const QUOTA_EVERY_S = 5;

/** One namespace: what is left of its quota, and what its topics inherit. */
export function Namespace({ namespace }: { namespace: string }) {
  const params = { params: { path: { ns: namespace } } };
  const detail = useLoad(namespace, () => answer(api.GET("/v1/namespaces/{ns}", params)));
  const quota = useLoad(namespace, () => answer(api.GET("/v1/namespaces/{ns}/quota", params)), String(Math.floor(tick.value / QUOTA_EVERY_S)));
  return (
    <>
      <div class="head">
        <h1>{namespace}</h1>
        <span class="grow" />
        <a class="button" href={`${href("topics")}?q=${encodeURIComponent(`${namespace}/`)}`}>
          Its topics
        </a>
      </div>
      <section>
        <h2>Quota</h2>
        {quota.problem && <ProblemNote problem={quota.problem} />}
        {quota.data && <QuotaTiles quota={quota.data} />}
      </section>
      <section>
        <h2>Settings its topics inherit</h2>
        {detail.problem && <ProblemNote problem={detail.problem} />}
        {detail.data && <Settings own={detail.data.settings} effective={detail.data.effective} whose="this namespace" />}
      </section>
    </>
  );
}

function QuotaTiles({ quota }: { quota: Schema["Quota"] }) {
  if (!quota.limited) return <p class="dim">Enqueues into this namespace are not limited.</p>;
  const burst = quota.burst ?? 0;
  const used = burst - (quota.remaining ?? 0);
  return (
    <dl class="tiles">
      <Tile name="Items a minute" value={format.count(quota.per_minute ?? 0)} />
      <Tile name="At once" value={format.count(burst)} />
      <Tile name="Left now" value={format.count(quota.remaining ?? 0)} bad={quota.remaining === 0} />
      <Tile name="Used" value={burst > 0 ? `${Math.round((used / burst) * 100)} %` : "–"} />
      <Tile name="Full again in" value={format.duration(quota.reset_ms ?? 0)} />
    </dl>
  );
}
