//! The limits that are asked before anything is done for an upgrade.

use std::{net::SocketAddr, time::Duration};

use http::HeaderMap;

use crate::{counts::Seat, handshake::Refusal, manager::RoomManager, network::Network};

/// When a client may try again where that depends on other connections. A second: they come and go.
const SOON: Duration = Duration::from_secs(1);

/// A client that is let as far as its token.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) from: Option<Network>,
    /// Its place among the sockets of its address that are not authenticated.
    pub(super) _seat: Option<Seat>,
}

impl RoomManager {
    /// Lets a client as far as its token, or says which limit it has reached.
    pub(super) fn newcomer(&self, peer: Option<SocketAddr>, headers: &HeaderMap) -> Result<Newcomer, Refusal> {
        let from = peer.map(|peer| Network::of(self.shared.proxies.client(peer, headers)));
        self.gate(from).inspect_err(|refusal| {
            self.shared.limiters.note_refusal();
            if let (Refusal::TooManyFromAddress { .. }, Some(peer)) = (refusal, peer)
                && let Some(left_out) = self.warnings().address.line()
            {
                let forwarded = headers.contains_key("x-forwarded-for") || headers.contains_key("forwarded");
                let unnamed_proxy = forwarded && !self.shared.proxies.has(peer.ip());
                tracing::warn!(
                    peer = %peer.ip(),
                    unnamed_proxy,
                    left_out,
                    "an upgrade was refused, as there were too many from its address; where that is a proxy, name it with \
                     `RoomManagerBuilder::proxies`"
                );
            }
        })
    }

    fn gate(&self, from: Option<Network>) -> Result<Newcomer, Refusal> {
        let (shared, limits) = (&self.shared, self.limits());
        if shared.users.connections() >= limits.max_connections {
            return Err(Refusal::Full);
        }
        let Some(network) = from else { return Ok(Newcomer { from, _seat: None }) };
        let refused = |retry_after| Refusal::TooManyFromAddress { retry_after };
        shared.limiters.connect(shared.runtime.handle(), network).map_err(refused)?;
        let seat = shared.newcomers.seat(network, limits.max_unauthenticated_per_ip).ok_or(refused(SOON))?;
        if shared.users.from(network) >= limits.max_connections_per_ip {
            return Err(refused(SOON));
        }
        Ok(Newcomer { from, _seat: Some(seat) })
    }
}
