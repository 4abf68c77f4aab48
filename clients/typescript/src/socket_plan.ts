import type { ConnectOptions } from "./options.js";
import type { Plan, Socket } from "./plan.js";
import type { Position } from "./protocol.js";

/** The URL of a path, which in a page may be one of its own server. */
export function urlOf(path: string | URL): URL {
  return new URL(path, globalThis.location?.href);
}

/** What opens a WebSocket, with the token where the endpoint takes it. */
export function planOf(path: string | URL, options: ConnectOptions<never>, jwt: string | null, since: Position = ""): Plan {
  const { tokenIn = "query", protocol, history, WebSocket: Given } = options;
  const url = urlOf(path);
  url.protocol = url.protocol.replace("http", "ws");
  const protocols = protocol ? [protocol] : [];
  if (jwt && tokenIn === "query") url.searchParams.set("token", jwt);
  if (jwt && tokenIn === "protocol") protocols.push("bearer", jwt);
  const first = jwt && tokenIn === "message" ? { type: "auth", token: jwt } : null;
  if (history) url.searchParams.set("since", since);
  if (typeof history === "object") url.searchParams.set("newest", String(history.newest));
  const open = () => {
    const socket = new (Given ?? WebSocket)(url, protocols);
    socket.binaryType = "arraybuffer";
    return socket as Socket;
  };
  return { open, first };
}
