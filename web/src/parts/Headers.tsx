import { Copy } from "./Copy";

/** An item's headers, in the order of their names, each value whole and to be copied. */
export function Headers({ headers }: { headers: Record<string, string> }) {
  const entries = Object.entries(headers).sort(([a], [b]) => a.localeCompare(b));
  if (entries.length === 0) return null;
  return (
    <section aria-label="Headers">
      <h3>Headers</h3>
      <table class="headers" aria-label="Headers">
        <tbody>
          {entries.map(([name, value]) => (
            <tr key={name}>
              <th scope="row">{name}</th>
              <td class="mono wrap">{value}</td>
              <td class="does">
                <Copy text={value} of={`the header ${name}`} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
