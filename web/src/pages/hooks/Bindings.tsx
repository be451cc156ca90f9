import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../../api/client";
import * as format from "../../format";
import { useAction } from "../../load";
import { Confirm } from "../../parts/Confirm";
import { ProblemNote } from "../../parts/Note";
import { Activate } from "./Activate";
import { BindingForm } from "./BindingForm";
import type { HookPart } from "./Hook";
import { Numbers } from "./Versions";

export type Binding = Schema["Binding"];

/** Who changes a binding says which one was seen: the change is refused when somebody else was faster. */
export const seen = (binding: Binding): string => `"${binding.revision}"`;

type Open = { what: "new" } | { what: "edit" | "activate" | "unbind"; binding: Binding } | null;

/** Where the hook is in force, and with which versions. */
export function Bindings({ names, detail, mayChange, again }: HookPart) {
  const [open, setOpen] = useState<Open>(null);
  // Read again even when nothing was done: a refused change means that somebody else made one.
  const close = (): void => {
    setOpen(null);
    again();
  };
  const inForce = new Set(detail.bindings.flatMap((binding) => [binding.version, binding.canary?.version, binding.shadow]));
  return (
    <>
      <section>
        <h2>Bindings</h2>
        {detail.bindings.length === 0 && <p class="empty">No topic uses the hook. A binding puts a version in force for a topic, or for all that begin alike.</p>}
        {detail.bindings.map((binding) => (
          <Card key={binding.id} namespace={names.namespace} binding={binding} mayChange={mayChange} again={again} onOpen={(what) => setOpen({ what, binding })} />
        ))}
        {mayChange && detail.versions.length > 0 && (
          <button type="button" onClick={() => setOpen({ what: "new" })}>
            Bind to a topic …
          </button>
        )}
      </section>
      <Numbers stats={detail.stats.filter(({ version }) => inForce.has(version))} />
      {open?.what === "new" && <BindingForm names={names} detail={detail} onDone={close} onClose={close} />}
      {open?.what === "edit" && <BindingForm names={names} detail={detail} binding={open.binding} onDone={close} onClose={close} />}
      {open?.what === "activate" && <Activate namespace={names.namespace} binding={open.binding} versions={detail.versions} onDone={close} onClose={close} />}
      {open?.what === "unbind" && (
        <Confirm
          title={`Unbind ${open.binding.id}`}
          verb="Unbind"
          danger
          work={() =>
            answer(
              api.DELETE("/v1/namespaces/{ns}/bindings/{binding}", {
                params: { path: { ns: names.namespace, binding: open.binding.id }, header: { "If-Match": seen(open.binding) } },
              }),
            )
          }
          onDone={close}
          onClose={close}
        >
          {open.binding.topic} goes on without the hook at once. Its versions stay.
        </Confirm>
      )}
    </>
  );
}

interface CardProps {
  namespace: string;
  binding: Binding;
  mayChange: boolean;
  again: () => void;
  onOpen: (what: "edit" | "activate" | "unbind") => void;
}

function Card({ namespace, binding, mayChange, again, onOpen }: CardProps) {
  const { busy, problem, run } = useAction();
  const params = { params: { path: { ns: namespace, binding: binding.id }, header: { "If-Match": seen(binding) } } };
  const promote = (): void => void run(() => answer(api.POST("/v1/namespaces/{ns}/bindings/{binding}/promote", params)), again);
  const rollBack = (): void => void run(() => answer(api.POST("/v1/namespaces/{ns}/bindings/{binding}/rollback", params)), again);
  return (
    <article class="card" aria-label={`Binding ${binding.id}`}>
      <header class="bar">
        <h3>{binding.id}</h3>
        {!binding.enabled && <span class="badge warn">off</span>}
        {binding.canary && <span class="badge warn">canary</span>}
        {!binding.ready && <span class="badge warn">being compiled here</span>}
        {binding.quarantined?.map((version) => (
          <span key={version} class="badge bad">
            version {version} in quarantine
          </span>
        ))}
        <span class="grow" />
        {mayChange && (
          <>
            <button type="button" class="small" onClick={() => onOpen("activate")}>
              Activate …
            </button>
            {binding.canary && (
              <button type="button" class="small" disabled={busy} onClick={promote}>
                Promote version {binding.canary.version}
              </button>
            )}
            {(binding.canary || binding.previous !== undefined) && (
              <button type="button" class="small" disabled={busy} onClick={rollBack}>
                {binding.canary ? "End the canary" : `Roll back to version ${binding.previous}`}
              </button>
            )}
            <button type="button" class="small" onClick={() => onOpen("edit")}>
              Edit …
            </button>
            <button type="button" class="small danger" onClick={() => onOpen("unbind")}>
              Unbind …
            </button>
          </>
        )}
      </header>
      {problem && <ProblemNote problem={problem} />}
      <dl class="facts">
        {factsOf(binding).map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </article>
  );
}

function factsOf(binding: Binding): [string, string][] {
  const facts: [string, string][] = [
    ["Topic", binding.topic],
    ["Side", binding.side],
    ["In force", `version ${binding.version}`],
    ["Since", format.moment(binding.activated_at)],
  ];
  if (binding.canary) facts.push(["Canary", `version ${binding.canary.version}, ${binding.canary.percent} % of the items`]);
  if (binding.shadow !== undefined) facts.push(["Shadow", `version ${binding.shadow}, on copies of ${binding.shadow_percent ?? 1} % of the items`]);
  facts.push(["Order", String(binding.position)], ["On failure", policiesOf(binding)], ["Automatic rollback", binding.auto_rollback ? "on" : "off"]);
  return facts;
}

/** The policy most failures have, and those that have another. */
function policiesOf({ policies }: Binding): string {
  const kinds = ["error", "trap", "timeout", "overload"] as const;
  const each = kinds.map((kind) => [kind, (policies[kind] ?? "closed").replaceAll("_", " ")] as const);
  const times = (policy: string): number => each.filter((entry) => entry[1] === policy).length;
  const most = each.reduce((best, [, policy]) => (times(policy) > times(best) ? policy : best), "closed");
  return [most, ...each.filter(([, policy]) => policy !== most).map(([kind, policy]) => `${kind}: ${policy}`)].join(", ");
}
