//! The nouns: what a service, a backend, a weight and a token are. Plain values
//! that cannot be wrong once they exist.

mod backend_addr;
mod backend_tls;
mod cidr;
mod dial;
mod drop_share;
mod labels;
mod overload;
mod service_name;
mod special;
mod token;
mod weight;
mod zone_table;

pub use backend_addr::{BackendAddr, BadBackendAddr};
pub use backend_tls::{BackendTls, TlsIdentity};
pub use cidr::{BadCidr, Cidr};
pub use dial::DialRules;
pub use drop_share::{BadDropCategory, BadDropShare, DropCategory, DropShare};
pub use labels::{BadLabels, LabelMatch, Labels};
pub use overload::{BadOverloadDrops, OverloadDrops};
pub use service_name::{BadServiceName, RequestedName, ServiceName};
pub(crate) use token::hash;
pub use token::{Nonce, Token};
pub use weight::{BadWeight, Weight};
pub use zone_table::ZoneTable;

/// Where a client or a backend stands, as the operator names it.
pub type Zone = std::sync::Arc<str>;
