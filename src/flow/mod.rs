//! Packets to flow records: the mapper cuts ([`FlowTable`]), the reducer alone joins ([`stitch`]).

mod changes;
mod community_id;
mod delta;
mod finish;
mod fragments;
mod head;
mod key;
mod open;
mod outcome;
mod packed;
mod partial;
mod pieces;
mod record;
mod seen;
mod short;
mod stitch;
mod table;

pub use changes::Stretch;
pub use delta::Replica;
pub use finish::{Finisher, Flow, HostSight, capture_name, tcp_stream};
pub use fragments::{
    Datagram, FRAGMENT_MEMORY_BYTES, FRAGMENT_WAIT_NANOS, FragmentPiece, Reassembly, by_datagram, datagram,
};
pub use head::{DNS_HEAD_BYTES, HEAD_BYTES, Head, Opening, Segment, Stream, Told};
pub use key::{FlowKey, Side};
pub use outcome::{ConnState, GOES_ON_NANOS, Outcome};
pub use packed::{Origin, RowProblem};
pub use partial::{Acks, DnsSeen, PartialFlow, QuoteClass, QuoteFact, Reset, SideFacts, Syn, SynAck};
pub use pieces::{BLOCK_BYTES, Budget, Pieces, PiecesReader};
pub use record::{ConnectTarget, FlowRecord, InitiatorBy, Proof, ProofKind};
pub use short::Unpacked;
pub use stitch::{SYN_DUPLICATE_NANOS, UDP_IDLE_NANOS, initiator, stitch};
pub use table::{FlowTable, HashedKey, Observed, TableOptions};
