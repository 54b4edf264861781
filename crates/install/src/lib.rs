//! To be filled. Render charts with the `gotemplate` crate (Go templates + sprig + Helm functions, `include`, `tpl`).
