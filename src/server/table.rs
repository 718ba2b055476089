//! Places of a listener's connections: their number, the share of each peer, and eviction for new connections.
//!
//! A connection with a request in flight is never evicted. If all have one, the new connection is rejected.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::activity::ConnectionActivity;

/// Bits of an IPv6 address that identify a peer: one host may use all addresses of a /64 network.
const PEER_BITS: u128 = u128::MAX << 64;

/// Address or network that has a share of the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PeerNetwork {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl From<IpAddr> for PeerNetwork {
    fn from(addr: IpAddr) -> Self {
        // A socket that listens on both families has addresses like ::ffff:192.0.2.1, all of which are in one /64.
        match addr.to_canonical() {
            IpAddr::V4(addr) => Self::V4(addr),
            IpAddr::V6(addr) => Self::V6(Ipv6Addr::from_bits(addr.to_bits() & PEER_BITS)),
        }
    }
}

/// Connections of a listener that have a place.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    max: usize,
    per_peer: usize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    connections: HashMap<u64, Connection>,
    /// Number of connections that count against the share of each peer.
    shares: HashMap<PeerNetwork, usize>,
    serial: u64,
}

#[derive(Debug)]
struct Connection {
    activity: Arc<ConnectionActivity>,
    /// Share that it counts against; `None` for a verified peer.
    share: Option<PeerNetwork>,
}

impl Places {
    fn remove(&mut self, serial: u64) {
        if let Some(connection) = self.connections.remove(&serial) {
            self.release_share(connection.share);
        }
    }

    fn release_share(&mut self, share: Option<PeerNetwork>) {
        let Some(peer) = share else { return };
        if let Some(count) = self.shares.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.shares.remove(&peer);
            }
        }
    }

    /// Evicts the connection of the lowest rank, among those of `peer` if it is set; `false` if there is none.
    fn evict(&mut self, peer: Option<PeerNetwork>) -> bool {
        let candidates = self
            .connections
            .iter()
            .filter(|(_, other)| peer.is_none() || other.share == peer);
        let ranked = candidates
            .filter_map(|(serial, other)| Some((other.activity.eviction_rank()?, *serial)));
        let Some((_, serial)) = ranked.min() else {
            return false;
        };
        if let Some(connection) = self.connections.get(&serial) {
            connection.activity.evict();
        }
        self.remove(serial);
        true
    }
}

/// Result of claiming a place for a new connection.
#[derive(Debug)]
pub(super) enum Claimed {
    /// The place, and whether another connection was evicted for it.
    Place(ConnectionPlace, bool),
    /// All places that it could have are taken by connections with requests in flight.
    Full,
}

impl ConnectionTable {
    /// Table of `max` places, of which the connections of one peer get `per_peer` at most.
    pub(super) fn new(max: usize, per_peer: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            per_peer,
            places: Mutex::default(),
        })
    }

    /// Claims a place for a new connection, and evicts another one if necessary.
    pub(super) fn claim(
        self: &Arc<Self>,
        addr: IpAddr,
        activity: &Arc<ConnectionActivity>,
    ) -> Claimed {
        let peer = PeerNetwork::from(addr);
        let mut places = self.lock();
        let evicted = if places
            .shares
            .get(&peer)
            .is_some_and(|count| *count >= self.per_peer)
        {
            Some(places.evict(Some(peer)))
        } else if places.connections.len() >= self.max {
            Some(places.evict(None))
        } else {
            None
        };
        if evicted == Some(false) {
            return Claimed::Full;
        }
        places.serial += 1;
        let serial = places.serial;
        places.connections.insert(
            serial,
            Connection {
                activity: Arc::clone(activity),
                share: Some(peer),
            },
        );
        *places.shares.entry(peer).or_default() += 1;
        Claimed::Place(
            ConnectionPlace {
                table: Arc::clone(self),
                serial,
            },
            evicted.is_some(),
        )
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Place of a connection, released on drop.
#[derive(Debug)]
pub(super) struct ConnectionPlace {
    table: Arc<ConnectionTable>,
    serial: u64,
}

impl ConnectionPlace {
    /// Removes the connection from the share of its peer, which has presented a certificate.
    pub(super) fn exempt(&self) {
        let mut places = self.table.lock();
        let share = places
            .connections
            .get_mut(&self.serial)
            .and_then(|connection| connection.share.take());
        places.release_share(share);
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.table.lock().remove(self.serial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::time::Duration;
    use tokio::time::advance;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    struct Client {
        activity: Arc<ConnectionActivity>,
        place: Option<ConnectionPlace>,
        evicted_another: bool,
    }

    impl Client {
        fn new(table: &Arc<ConnectionTable>, addr: IpAddr) -> Self {
            let activity = ConnectionActivity::new(Duration::from_hours(1));
            let (place, evicted_another) = match table.claim(addr, &activity) {
                Claimed::Place(place, evicted) => (Some(place), evicted),
                Claimed::Full => (None, false),
            };
            Self {
                activity,
                place,
                evicted_another,
            }
        }

        fn was_evicted(&self) -> bool {
            self.activity.is_closing()
        }

        /// Serves a request, after which the connection is idle.
        fn serve(&self) {
            drop(self.activity.begin());
            self.activity.flushed();
        }
    }

    fn flags<const N: usize>(clients: [&Client; N]) -> [bool; N] {
        clients.map(Client::was_evicted)
    }

    #[tokio::test(start_paused = true)]
    async fn unused_connections_are_evicted_first_by_age_and_then_used_ones_by_idle_time() {
        let table = ConnectionTable::new(4, 4);
        let used_early = Client::new(&table, A);
        let used_late = Client::new(&table, A);
        used_late.serve();
        advance(Duration::from_secs(1)).await;
        used_early.serve();
        let first_unused = Client::new(&table, A);
        advance(Duration::from_secs(1)).await;
        let second_unused = Client::new(&table, A);
        let all = [&used_early, &used_late, &first_unused, &second_unused];
        assert_eq!(flags(all), [false; 4], "there was room");

        let mut newcomers = Vec::new();
        for expected in [
            [false, false, true, false],
            [false, false, true, true],
            // It served its request earlier, and has been idle for longer.
            [false, true, true, true],
            [true, true, true, true],
        ] {
            let newcomer = Client::new(&table, B);
            newcomer.serve();
            advance(Duration::from_secs(1)).await;
            assert!(newcomer.place.is_some() && newcomer.evicted_another);
            newcomers.push(newcomer);
            assert_eq!(flags(all), expected);
        }
        assert!(newcomers.iter().all(|newcomer| !newcomer.was_evicted()));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_keep_their_places_and_a_new_connection_is_rejected() {
        let table = ConnectionTable::new(2, 2);
        let (responding, sending) = (Client::new(&table, A), Client::new(&table, A));
        let _in_flight = responding.activity.begin();
        // Its response is complete in hyper, and not sent yet.
        drop(sending.activity.begin());
        assert!(Client::new(&table, B).place.is_none());
        assert_eq!(flags([&responding, &sending]), [false; 2]);
        sending.activity.flushed();
        assert!(Client::new(&table, B).place.is_some());
        assert_eq!(flags([&responding, &sending]), [false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn peer_above_its_share_evicts_only_its_own_connections() {
        let table = ConnectionTable::new(10, 3);
        let other = Client::new(&table, B);
        let own: Vec<_> = (0..3).map(|_| Client::new(&table, A)).collect();
        assert_eq!(
            flags([&own[0], &own[1], &own[2]]),
            [false; 3],
            "at the share"
        );
        let above = Client::new(&table, A);
        assert!(above.place.is_some() && above.evicted_another);
        assert_eq!(
            flags([&own[0], &own[1], &own[2], &other]),
            [true, false, false, false]
        );

        let _in_flight = [
            own[1].activity.begin(),
            own[2].activity.begin(),
            above.activity.begin(),
        ];
        assert!(
            Client::new(&table, A).place.is_none(),
            "all of its own have requests in flight"
        );
        let newcomer = Client::new(&table, B);
        assert!(newcomer.place.is_some() && !newcomer.evicted_another);
        assert_eq!(flags([&own[1], &own[2], &above, &other]), [false; 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_a_verified_peer_do_not_count_against_its_share() {
        let table = ConnectionTable::new(4, 1);
        let verified = Client::new(&table, A);
        verified.place.as_ref().unwrap().exempt();
        let second = Client::new(&table, A);
        second.place.as_ref().unwrap().exempt();
        let third = Client::new(&table, A);
        assert_eq!(flags([&verified, &second, &third]), [false; 3]);
        let fourth = Client::new(&table, A);
        assert!(fourth.place.is_some());
        assert_eq!(
            flags([&verified, &second, &third]),
            [false, false, true],
            "the share is for the others"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn released_place_is_free_for_its_peer_and_for_others() {
        let table = ConnectionTable::new(2, 1);
        for _ in 0..3 {
            let client = Client::new(&table, A);
            let verified = Client::new(&table, B);
            verified.place.as_ref().unwrap().exempt();
            assert!(!client.evicted_another && !verified.evicted_another);
        }
        assert!(table.lock().connections.is_empty() && table.lock().shares.is_empty());
    }

    #[rstest]
    #[case("192.0.2.1", "192.0.2.2", false)]
    #[case("192.0.2.1", "::ffff:192.0.2.1", true)]
    #[case("::ffff:192.0.2.1", "::ffff:192.0.2.2", false)]
    #[case("2001:db8::1", "2001:db8::ffff:1", true)]
    #[case("2001:db8::1", "2001:db8:0:1::1", false)]
    fn peer_network_is_an_ipv4_address_or_an_ipv6_network(
        #[case] one: &str,
        #[case] other: &str,
        #[case] same: bool,
    ) {
        let peer = |text: &str| PeerNetwork::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(peer(one) == peer(other), same);
    }
}
