//! tmp
use crate::agent::Node; use crate::error::Result; use crate::runtime::Place;
use std::sync::Arc;
pub(crate) fn last_words(_c: &k8s_openapi::api::core::v1::Container, _p: &Place, _f: bool) -> Option<String> { None }
pub(crate) async fn bind(_node: Arc<Node>) -> Result<(u16, impl Future<Output = ()>)> { Ok((0, std::future::pending())) }
