//! From an HTTP request to the verb.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::{
    Api, Call, Response,
    respond::{self, error_response, plain_response},
};
use crate::{
    auth,
    codec::{Accept, Format},
    discovery,
    error::{ApiError, Subject},
    hooks::{AdmissionRequest, Attributes, Decision, Operation},
    openapi,
    request::{Options, RequestInfo},
    resource::ResourceInfo,
};

/// Largest body, bytes: the real server's limit for resources.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// Subresources that are streams to the node.
const STREAMS: [&str; 5] = ["log", "exec", "attach", "portforward", "proxy"];

/// Those of [`STREAMS`] that act inside a pod.
const SESSIONS: [&str; 3] = ["exec", "attach", "portforward"];

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    let values: Vec<&str> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

impl Api {
    /// Answers one request.
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response {
        let (parts, body) = request.into_parts();
        let accept = header_text(&parts.headers, header::ACCEPT);
        let format = Accept::negotiate(accept.as_deref(), true, true).map_or(Format::Json, |accept| accept.format);
        let query = parts.uri.query();
        let info = match RequestInfo::parse(parts.method.as_str(), parts.uri.path(), query) {
            Ok(info) => info,
            Err(error) => return error_response(&error, format),
        };
        let user = match self.hooks.authenticator.authenticate(&parts).await {
            Ok(user) => user,
            Err(error) => return error_response(&error, format),
        };
        let attributes = Attributes { user, info };
        if let Decision::Deny(reason) = self.hooks.authorizer.authorize(&attributes).await {
            let refusal = auth::attributes::Attributes::of(&attributes.info).refusal(&attributes.user.name, &reason);
            return error_response(&refusal, format);
        }
        let result = if attributes.info.is_resource {
            self.resource(parts, body, attributes, accept.as_deref(), format).await
        } else {
            self.plain(&parts, &attributes, accept.as_deref())
        };
        result.unwrap_or_else(|error| error_response(&error, format))
    }

    /// Whether the user may do the same with another verb.
    ///
    /// # Errors
    /// 403 if not.
    pub async fn authorize_as(&self, attributes: &Attributes, verb: &str) -> Result<(), ApiError> {
        let mut attributes = attributes.clone();
        attributes.info.verb = verb.into();
        match self.hooks.authorizer.authorize(&attributes).await {
            Decision::Allow => Ok(()),
            Decision::Deny(reason) => {
                Err(auth::attributes::Attributes::of(&attributes.info).refusal(&attributes.user.name, &reason))
            }
        }
    }

    /// Paths that are no resources.
    fn plain(&self, parts: &Parts, attributes: &Attributes, accept: Option<&str>) -> Result<Response, ApiError> {
        let path = parts.uri.path();
        let get = parts.method == http::Method::GET;
        let known = discovery::is_known(&self.core.registry, path);
        if known && !get {
            return Err(ApiError::method_not_allowed());
        }
        if let Some(document) = self.documents.get(path) {
            return Ok(respond::json_response(200, document));
        }
        if let Some(response) = openapi::answer(&self.core.registry, path, accept) {
            return Ok(response);
        }
        discovery::answer(&self.core.registry, attributes, path, accept, &self.address(parts))
    }

    fn address(&self, parts: &Parts) -> String {
        let host = parts.headers.get(header::HOST).and_then(|value| value.to_str().ok());
        host.map_or_else(|| self.core.config.bind.to_string(), str::to_owned)
    }

    async fn resource(
        self: &Arc<Self>,
        parts: Parts,
        body: Incoming,
        attributes: Attributes,
        accept: Option<&str>,
        format: Format,
    ) -> Result<Response, ApiError> {
        let info = &attributes.info;
        let Some(resource) = self.core.registry.get(&info.group, &info.version, &info.resource) else {
            return if self.core.registry.is_builtin_group(&info.group) {
                Err(ApiError::no_such_resource())
            } else {
                Ok(plain_response(404, "404 page not found\n"))
            };
        };
        if parts.uri.path().starts_with("//") {
            return Ok(plain_response(404, "404 page not found\n"));
        }
        if !resource.namespaced && !info.namespace.is_empty() && info.resource != "namespaces" {
            if resource.custom {
                return Ok(plain_response(404, "404 page not found\n"));
            }
            return Err(ApiError::no_such_resource());
        }
        let stream = STREAMS.contains(&info.subresource.as_str());
        check_verb(&resource, info, &parts)?;
        let options = Options::parse(parts.uri.query())?;
        if stream {
            return self.connect(parts, body, attributes, &resource).await;
        }
        let accept = Accept::negotiate(accept, true, false).ok_or_else(|| not_acceptable(accept))?;
        let body = read_body(body).await?;
        let content_type = header_text(&parts.headers, header::CONTENT_TYPE)
            .map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
            .unwrap_or_default();
        let manager = manager(&options, &parts.headers);
        let mut warnings = Vec::new();
        warnings.extend(resource.warning.clone());
        let mut call = Call {
            api: self.clone(),
            attributes,
            options,
            resource,
            accept,
            manager,
            content_type,
            body,
            warnings,
        };
        let result = call.run().await;
        let mut response = result.unwrap_or_else(|error| error_response(&error, format));
        respond::warn(&mut response, &call.warnings);
        Ok(response)
    }

    async fn connect(
        &self,
        parts: Parts,
        body: Incoming,
        attributes: Attributes,
        resource: &Arc<ResourceInfo>,
    ) -> Result<Response, ApiError> {
        let info = attributes.info.clone();
        if info.verb == "get" && SESSIONS.contains(&info.subresource.as_str()) {
            // A WebSocket begins with a GET; what it carries is no reading.
            self.authorize_as(&attributes, "create").await?;
        }
        if info.subresource != "log" {
            let mut warnings = Vec::new();
            let wanted = Options::parse(parts.uri.query())?;
            let mut review = AdmissionRequest {
                attributes: &attributes,
                resource,
                subresource: Some(&info.subresource),
                operation: Operation::Connect,
                name: &info.name,
                namespace: &info.namespace,
                object: Some(connect_options(&info, &wanted)),
                old_object: None,
                options: serde_json::Value::Null,
                dry_run: false,
            };
            self.hooks.admission.mutate(&mut review, &mut warnings).await?;
            self.hooks.admission.validate(&review, &mut warnings).await?;
        }
        self.hooks
            .connector
            .connect(&attributes, Request::from_parts(parts, body))
            .await
    }
}

/// The query of a connect request as the object that admission sees.
fn connect_options(info: &RequestInfo, query: &Options) -> serde_json::Value {
    let mut object = serde_json::json!({ "kind": connect_kind(info), "apiVersion": "v1" });
    for key in ["stdin", "stdout", "stderr", "tty"] {
        if matches!(query.get(key), Some("true" | "1")) {
            object[key] = true.into();
        }
    }
    if let Some(container) = query.get("container") {
        object["container"] = container.into();
    }
    let command: Vec<&str> = query
        .raw
        .iter()
        .filter(|(key, _)| key == "command")
        .map(|(_, value)| value.as_str())
        .collect();
    if !command.is_empty() {
        object["command"] = command.into();
    }
    if !info.rest.is_empty() {
        object["path"] = info.rest.join("/").into();
    }
    object
}

fn connect_kind(info: &RequestInfo) -> &'static str {
    match (info.resource.as_str(), info.subresource.as_str()) {
        ("pods", "exec") => "PodExecOptions",
        ("pods", "attach") => "PodAttachOptions",
        ("pods", "portforward") => "PodPortForwardOptions",
        ("services", _) => "ServiceProxyOptions",
        ("nodes", _) => "NodeProxyOptions",
        _ => "PodProxyOptions",
    }
}

fn check_verb(resource: &ResourceInfo, info: &RequestInfo, parts: &Parts) -> Result<(), ApiError> {
    if parts.method == http::Method::HEAD {
        return Err(ApiError::method_not_allowed());
    }
    let verbs = if info.subresource.is_empty() {
        &resource.verbs
    } else {
        let unknown = || {
            let subject = Subject {
                group: &resource.group,
                resource: &resource.plural,
                name: &info.name,
            };
            if resource.custom {
                ApiError::not_found(subject)
            } else {
                ApiError::no_such_resource()
            }
        };
        &resource.subresource(&info.subresource).ok_or_else(unknown)?.verbs
    };
    let named_create = info.verb == "create" && !info.name.is_empty() && info.subresource.is_empty();
    let collection_write = matches!(info.verb.as_str(), "update" | "patch") && info.name.is_empty();
    if named_create || collection_write || !verbs.contains(&info.verb) {
        return Err(ApiError::method_not_allowed());
    }
    let needs_namespace = resource.namespaced && info.namespace.is_empty();
    if needs_namespace && !matches!(info.verb.as_str(), "list" | "watch") {
        return Err(ApiError::method_not_allowed());
    }
    Ok(())
}

async fn read_body(body: Incoming) -> Result<Bytes, ApiError> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {MAX_BODY}"),
        )),
        Err(error) => Err(ApiError::bad_request(format!("the body could not be read: {error}"))),
    }
}

/// The `fieldManager` parameter, else the user agent up to the first slash.
fn manager(options: &Options, headers: &HeaderMap) -> String {
    if !options.field_manager.is_empty() {
        return options.field_manager.clone();
    }
    let agent = header_text(headers, header::USER_AGENT).unwrap_or_default();
    let first = agent.split('/').next().unwrap_or_default();
    let printable: String = first.chars().filter(|c| !c.is_control()).take(128).collect();
    if printable.is_empty() {
        "unknown".into()
    } else {
        printable
    }
}

fn not_acceptable(accept: Option<&str>) -> ApiError {
    let types = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let asked = accept.unwrap_or_default();
    let mut error = if Accept::negotiate(Some(&plain_types(asked)), false, false).is_some() {
        ApiError::new(
            406,
            "NotAcceptable",
            format!("only the following media types are accepted: {types}"),
        )
    } else {
        let mut error = ApiError::new(
            406,
            "NotAcceptable",
            format!("406: Not Acceptable\n\nAvailable representations: {types}"),
        );
        error.details = Some(serde_json::Map::new());
        error
    };
    error.retry_after = None;
    error
}

/// The media types of an `Accept` header without their parameters.
fn plain_types(accept: &str) -> String {
    accept
        .split(',')
        .map(|entry| entry.split(';').next().unwrap_or_default().trim())
        .collect::<Vec<_>>()
        .join(",")
}

impl Call {
    /// Runs the verb.
    async fn run(&mut self) -> Result<Response, ApiError> {
        let verb = self.attributes.info.verb.clone();
        let subresource = self.attributes.info.subresource.clone();
        let resource = self.resource.clone();
        let virtual_key = if subresource.is_empty() {
            format!("{}/{}", resource.group, resource.plural)
        } else {
            format!("{}/{}/{subresource}", resource.group, resource.plural)
        };
        if verb == "create"
            && let Some(handler) = self.api.hooks.virtuals.get(&virtual_key).cloned()
        {
            super::options::check_write(&self.options, "CreateOptions", false)?;
            let kind = resource.subresource(&subresource);
            let (group, version, kind) = match kind {
                Some(sub) if !sub.version.is_empty() => (sub.group.as_str(), sub.version.as_str(), sub.kind.as_str()),
                _ => (
                    resource.group.as_str(),
                    resource.version.as_str(),
                    resource.kind.as_str(),
                ),
            };
            let object = self.input_of(group, version, kind)?;
            self.check_namespace(&object)?;
            let answer = handler.create(&self.attributes, object, &self.options).await?;
            return Ok(respond::encoded(201, self.accept.format, &answer));
        }
        match (verb.as_str(), subresource.as_str()) {
            ("create", "binding") => self.bind().await,
            ("create", "") if resource.plural == "bindings" && resource.group.is_empty() => self.bind_any().await,
            ("create", "eviction") => self.evict().await,
            ("create", "") => self.create().await,
            ("update", "scale") => self.update_scale().await,
            ("get", _) => self.get().await,
            ("list", _) => self.list().await,
            ("watch", _) => self.watch().await,
            ("update", _) => self.update().await,
            ("patch", _) => self.patch().await,
            ("delete", _) => self.delete().await,
            ("deletecollection", _) => self.delete_collection().await,
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    /// `bindings`: as `pods/binding`, the pod named in the body.
    async fn bind_any(&mut self) -> Result<Response, ApiError> {
        self.resource = self
            .api
            .core
            .registry
            .get("", "v1", "pods")
            .ok_or_else(ApiError::no_such_resource)?;
        self.bind().await
    }
}
