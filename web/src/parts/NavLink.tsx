import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

interface Props {
  to: string;
  current: boolean;
  children: ComponentChildren;
}

/** One link of a row; the current one comes into sight where the row is wider than the page. */
export function NavLink({ to, current, children }: Props) {
  const link = useRef<HTMLAnchorElement>(null);
  useEffect(() => {
    if (current) link.current?.scrollIntoView({ inline: "nearest", block: "nearest" });
  }, [current]);
  return (
    <a ref={link} href={to} aria-current={current ? "page" : undefined}>
      {children}
    </a>
  );
}
