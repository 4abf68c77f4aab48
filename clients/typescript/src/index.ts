export { publishBinary, sendBinary } from "./binary.js";
export { connect, connectRoom, type PayloadEvent } from "./connect.js";
export { eventStream } from "./event_stream.js";
export type { FallbackTo } from "./fallback.js";
export {
  type AnyKinds,
  type EventOfKind,
  type EventsOf,
  isMessageOf,
  type KindName,
  type KindsOf,
  type PublishOf,
  type RoomName,
  type RoomsEvent,
  type StateOf,
} from "./kinds.js";
export { type HiddenOptions, leaveWhileHidden, pauseWhileHidden } from "./visibility.js";
export { listen } from "./listen.js";
export { type OfflineQueue, offlineQueue, type QueueOptions } from "./offline_queue.js";
export type {
  AnySocket,
  BaseClient,
  BinarySource,
  Buffers,
  Client,
  ConnectOptions,
  Happenings,
  JoinOptions,
  Offline,
  RoomClient,
  SocketClass,
  Status,
  Transport,
} from "./options.js";
export { type Presence, presence, type PresenceOptions } from "./presence.js";
export type {
  ConnectionEvent,
  ErrorCode,
  ErrorEvent,
  FetchAgain,
  Member,
  Message,
  Position,
  Published,
  Ref,
  RoomJoined,
  RoomLeft,
  RoomState,
  ServerEvent,
  ViewersChanged,
} from "./protocol.js";
export { publish, PublishError, type PublishErrorCode, type Receipt } from "./publish.js";
