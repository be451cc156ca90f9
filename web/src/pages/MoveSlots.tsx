import { useState } from "preact/hooks";
import { answer, api, type Schema } from "../api/client";
import * as format from "../format";
import { useAction } from "../load";
import { Dialog } from "../parts/Dialog";
import { Field } from "../parts/Field";
import { ProblemNote } from "../parts/Note";

interface Props {
  shards: Schema["ShardEvent"][];
  onDone: () => void;
  onClose: () => void;
}

/** Moves slots from shard to shard: so many that all hold the same, or some from one to another. */
export function MoveSlots({ shards, onDone, onClose }: Props) {
  const [balance, setBalance] = useState(true);
  const [from, setFrom] = useState(String(shards[0]?.shard ?? 0));
  const [to, setTo] = useState(String(shards[1]?.shard ?? 0));
  const [slots, setSlots] = useState("1");
  const [plan, setPlan] = useState<Schema["PlannedMove"][] | null>(null);
  const { busy, problem, run } = useAction();
  const move = (dry_run: boolean): void => {
    const which = balance ? { balance } : { balance, from: Number(from), to: Number(to), slots: Number(slots) };
    void run(
      () => answer(api.POST("/v1/shards/moves", { body: { ...which, dry_run } })),
      ({ moves }) => (dry_run ? setPlan(moves) : onDone()),
    );
  };
  const choose = (text: string, change: (text: string) => void): void => {
    setPlan(null);
    change(text);
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    move(false);
  };
  return (
    <Dialog title="Move slots" onClose={onClose}>
      <form onSubmit={submit}>
        <p class="dim">They move a few at a time, with their topics’ items, while everything goes on.</p>
        <label class="check">
          <input
            type="checkbox"
            checked={balance}
            onChange={({ currentTarget }) => {
              setPlan(null);
              setBalance(currentTarget.checked);
            }}
          />{" "}
          So many that every shard holds the same number
        </label>
        {!balance && (
          <div class="fields">
            <ShardField label="From shard" value={from} shards={shards} change={(text) => choose(text, setFrom)} />
            <ShardField label="To shard" value={to} shards={shards} change={(text) => choose(text, setTo)} />
            <Field label="Slots">
              <input type="number" min="1" step="1" required value={slots} onInput={(event) => choose(event.currentTarget.value, setSlots)} />
            </Field>
          </div>
        )}
        {plan && (
          <div class="note" role="status">
            {plan.length === 0 && <p>There is nothing to move.</p>}
            {plan.map((part) => (
              <p key={`${part.from}-${part.to}`}>
                {format.some(part.slots, "slot")} would move from shard {part.from} to shard {part.to}.
              </p>
            ))}
          </div>
        )}
        {problem && <ProblemNote problem={problem} />}
        <footer>
          <button type="button" disabled={busy} onClick={() => move(true)}>
            Dry run
          </button>
          <button type="submit" class="main" disabled={busy}>
            Move
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

interface ShardFieldProps {
  label: string;
  value: string;
  shards: Schema["ShardEvent"][];
  change: (value: string) => void;
}

function ShardField({ label, value, shards, change }: ShardFieldProps) {
  return (
    <Field label={label}>
      <select value={value} onChange={(event) => change(event.currentTarget.value)}>
        {shards.map(({ shard, slots }) => (
          <option key={shard} value={shard}>
            {shard} – {format.some(slots, "slot")}
          </option>
        ))}
      </select>
    </Field>
  );
}
