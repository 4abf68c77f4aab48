//! WebSocket rooms for Warp. Empty so far: the Warp adapter is not written yet.
