import { useEffect, useState } from "preact/hooks";
import { latest, watch } from "./api/live";
import { useKeys } from "./keys";
import { Hook } from "./pages/hooks/Hook";
import { Hooks } from "./pages/hooks/Hooks";
import { Namespace } from "./pages/Namespace";
import { Namespaces } from "./pages/Namespaces";
import { Node } from "./pages/Node";
import { Overview } from "./pages/Overview";
import { SignIn } from "./pages/SignIn";
import { Topic } from "./pages/Topic";
import { Topics } from "./pages/Topics";
import { Dialog } from "./parts/Dialog";
import { Help } from "./parts/Help";
import { Shell } from "./parts/Shell";
import { followLinks, path } from "./router";
import { refused, token } from "./session";

export function App() {
  const [help, setHelp] = useState(false);
  useKeys(() => setHelp(true));
  useEffect(() => {
    document.addEventListener("click", followLinks);
    // A reload of the tab goes on with the token it has.
    if (token.value) void watch(token.value);
    return () => document.removeEventListener("click", followLinks);
  }, []);
  if (token.value === null) {
    return (
      <main class="alone">
        <h1>MQueue</h1>
        <SignIn />
      </main>
    );
  }
  return (
    <>
      <Shell onHelp={() => setHelp(true)}>{latest.value ? <Page /> : <p class="dim">Waiting for the server …</p>}</Shell>
      {help && <Help onClose={() => setHelp(false)} />}
      {refused.value && (
        <Dialog title="Sign in">
          <SignIn />
        </Dialog>
      )}
    </>
  );
}

function Page() {
  const [page, ...names] = path.value;
  const [first, second] = names;
  if (page === undefined) return <Overview />;
  if (page === "topics" && first !== undefined && second !== undefined) {
    return <Topic key={`${first}/${second}`} namespace={first} topic={second} />;
  }
  if (page === "topics") return <Topics />;
  if (page === "hooks" && first !== undefined && second !== undefined) {
    return <Hook key={`${first}/${second}`} namespace={first} hook={second} />;
  }
  if (page === "hooks") return <Hooks />;
  if (page === "node") return <Node />;
  if (page === "namespaces" && first !== undefined) return <Namespace key={first} namespace={first} />;
  return <Namespaces />;
}
