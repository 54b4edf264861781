//! Names for the agent's resolver (NDS).

use std::sync::Arc;

use xds::resource::ResourceSet;

use crate::graph::Cx;
use crate::proxy::ProxyClass;

pub(crate) fn of_class(_cx: &mut Cx<'_>, _class: &ProxyClass) -> Arc<ResourceSet> {
    Arc::default()
}
