// How long the client waits, in milliseconds, and how often it tries.

export const PING_EVERY = 20_000; // the server pings too, but a page is not told of that
export const ANSWER_WITHIN = 10_000; // an upgrade and a pong
export const RESYNC_WITHIN = 5_000; // every page is told at once, and they shall not all ask at once
export const LIST_WINDOW = 5_000; // the server sends a room's members twice in this time to one connection

export const TOKEN_WITHIN = 10_000;
export const REFRESH_AGAIN = 5_000; // the server takes a token each five seconds; doubled with each try
export const LAST_REFRESH = 20_000; // a try a minute before a token ends, and three more

export const FIRST_DELAY = 500; // doubled with each failure
export const LONGEST_DELAY = 30_000;
export const LATER = 4; // failures that "later" counts for: 4 s to 8 s
export const TRIES_FOR_A_PLACE = 3; // 27 s at least; an old connection keeps its place for 20 s at most
