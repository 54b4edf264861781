//! `istioctl experimental workload group create`: a WorkloadGroup as YAML.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::Global;
use crate::failure::Failure;

/// Flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// Name of the group.
    #[arg(long, default_value = "")]
    name: String,
    /// Labels of its workloads, for example `app=web,version=v1`.
    #[arg(short, long, value_delimiter = ',', value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Annotations of its workloads.
    #[arg(short, long, value_delimiter = ',', value_name = "KEY=VALUE", value_parser = pair)]
    annotations: Vec<(String, String)>,
    /// Ports on which its workloads are called, for example `http=8080,grpc=3550`.
    #[arg(short, long, value_delimiter = ',', value_name = "NAME=PORT", value_parser = port)]
    ports: Vec<(String, u16)>,
    /// Identity of its workloads.
    #[arg(short, long = "serviceAccount", value_name = "NAME", default_value = "default")]
    service_account: String,
    /// Network that its workloads are in.
    #[arg(long, default_value = "")]
    network: String,
    /// Where they are: `region/zone/subzone`.
    #[arg(long, default_value = "")]
    locality: String,
    /// Their share of the load, beside other endpoints of a service.
    #[arg(short, long, default_value_t = 0)]
    weight: u32,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no KEY=VALUE")),
    }
}

fn port(text: &str) -> Result<(String, u16), String> {
    let (name, number) = pair(text)?;
    match number.parse() {
        Ok(number) if number > 0 => Ok((name, number)),
        _ => Err(format!("{text:?}: a port is a number from 1 to 65535")),
    }
}

impl Flags {
    /// The group.
    pub fn yaml(&self, global: &Global) -> Result<String, Failure> {
        if self.name.is_empty() {
            return Err(Failure::new("expecting a workload name"));
        }
        let namespace = global.namespace.as_deref().unwrap_or_default();
        if namespace.is_empty() {
            return Err(Failure::new("expecting a workload namespace"));
        }
        let strings = |pairs: &[(String, String)]| -> Value {
            pairs
                .iter()
                .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
                .collect()
        };
        let ports: Value = self
            .ports
            .iter()
            .map(|(name, port)| (name.clone(), Value::from(*port)))
            .collect();
        let group = json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadGroup",
            "metadata": {"name": self.name, "namespace": namespace},
            "spec": {
                "metadata": said([("labels", strings(&self.labels)), ("annotations", strings(&self.annotations))]),
                "template": said([
                    ("ports", ports),
                    ("serviceAccount", self.service_account.as_str().into()),
                    ("network", self.network.as_str().into()),
                    ("locality", self.locality.as_str().into()),
                    ("weight", self.weight.into()),
                ]),
            },
        });
        Ok(format!("{}\n", install::yaml::to_sorted(&group).trim_end()))
    }
}

/// Fields that say something.
fn said<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let is_said = |value: &Value| match value {
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_u64() != Some(0),
        _ => true,
    };
    let map: Map<String, Value> = fields
        .into_iter()
        .filter(|(_, value)| is_said(value))
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser as _;

    use crate::cli::{Cli, Command, Experimental};
    use crate::command::workload;

    fn create(line: &str) -> String {
        let line = format!("istioctl x workload group create {line}");
        let cli = match Cli::try_parse_from(line.split_whitespace()) {
            Ok(cli) => cli,
            Err(error) => return error.to_string(),
        };
        let Command::Experimental(Experimental::Workload(workload::Command::Group(group))) = cli.command else {
            panic!()
        };
        let workload::Group::Create(flags) = group;
        flags
            .yaml(&cli.global)
            .unwrap_or_else(|failure| failure.message().to_owned())
    }

    #[test]
    fn a_group_has_what_is_said_of_it() {
        insta::assert_snapshot!(create("--name web -n app"), @r"
        apiVersion: networking.istio.io/v1
        kind: WorkloadGroup
        metadata:
          name: web
          namespace: app
        spec:
          metadata: {}
          template:
            serviceAccount: default
        ");
        insta::assert_snapshot!(
            create("--name web -n app -l app=web,tier=front -a note=x=y -p grpc=3550,http=8080 -s web --network east --locality r/z -w 100"),
            @r"
        apiVersion: networking.istio.io/v1
        kind: WorkloadGroup
        metadata:
          name: web
          namespace: app
        spec:
          metadata:
            annotations:
              note: x=y
            labels:
              app: web
              tier: front
          template:
            locality: r/z
            network: east
            ports:
              grpc: 3550
              http: 8080
            serviceAccount: web
            weight: 100
        "
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_told() {
        assert_eq!(create("-n app"), "expecting a workload name");
        assert_eq!(create("--name web"), "expecting a workload namespace");
        assert!(create("--name web -n app -p http=0").contains("a port is a number from 1 to 65535"));
        assert!(create("--name web -n app -l app").contains("is no KEY=VALUE"));
    }
}
