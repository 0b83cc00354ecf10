//! What a tonic backend behind a lookaside balancer links.
//!
//! A client of a grpclb balancer sends along with each RPC the token of the list
//! entry it picked. [`lb_token`] reads it: it tells a backend under which entry,
//! of which list, a call came.
//!
//! ```
//! use lookaside_backend::lb_token;
//! use tonic::metadata::MetadataMap;
//!
//! let mut metadata = MetadataMap::new();
//! metadata.insert("lb-token", "q1Zf0aB_.4rT-xW2k".parse().unwrap());
//!
//! let token = lb_token(&metadata).unwrap();
//! assert_eq!(token.id(), "q1Zf0aB_");
//! assert_eq!(token.nonce(), Some("4rT-xW2k"));
//! ```

mod token;

pub use self::token::{LbToken, lb_token};
