//! The rules of a normal sidecar in both dialects, and what applying them runs.
#![allow(clippy::unwrap_used)]

use capture::apply::{self, Command, Runner};
use capture::{Config, iptables, nftables, program};

fn sidecar() -> Config {
    Config {
        inbound_ports_include: "*".into(),
        inbound_ports_exclude: "15090,15021,15020".into(),
        outbound_ip_ranges_include: "*".into(),
        ..Config::default()
    }
}

#[test]
fn the_sidecar_of_an_injected_pod() {
    let rules = program::rules(&sidecar()).unwrap();
    let expected = "\
* nat
-N ISTIO_INBOUND
-N ISTIO_REDIRECT
-N ISTIO_IN_REDIRECT
-N ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN
-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
COMMIT
";
    assert_eq!(iptables::restore(&rules, iptables::Version::V4), expected);
    assert!(nftables::transaction(&rules).ends_with("istio-output counter jump istio-redirect\n"));
}

/// A system that remembers what `iptables-restore` was given, and notes every command.
#[derive(Default)]
struct System {
    saved: String,
    ran: Vec<String>,
}

impl Runner for System {
    fn run(&mut self, command: &Command) -> Result<String, String> {
        self.ran.push(
            format!("{} {}", command.program, command.args.join(" "))
                .trim()
                .to_owned(),
        );
        match command.program.as_str() {
            "iptables-save" => Ok(self.saved.clone()),
            "ip6tables-save" => Err("no such program".into()),
            "iptables-restore" => {
                let input = command.input.clone().unwrap();
                self.saved = input.replace("* ", "*").replace("-N ISTIO", ":ISTIO");
                Ok(String::new())
            }
            _ => Ok(String::new()),
        }
    }
}

#[test]
fn applying_twice_changes_nothing() {
    let mut system = System::default();
    apply::with_iptables(&sidecar(), &mut system).unwrap();
    assert_eq!(
        system.ran,
        [
            "iptables-save",
            "ip6tables-save",
            "iptables-restore --noflush",
            "iptables-save"
        ]
    );
    system.ran.clear();
    apply::with_iptables(&sidecar(), &mut system).unwrap();
    assert!(
        system.ran.iter().all(|c| c.ends_with("-save") || c.contains(" -C ")),
        "{:?}",
        system.ran
    );
}

#[test]
fn other_rules_are_removed_first() {
    let mut system = System::default();
    apply::with_iptables(&Config::default(), &mut system).unwrap();
    system.ran.clear();
    apply::with_iptables(&sidecar(), &mut system).unwrap();
    let position = |c: &str| {
        system
            .ran
            .iter()
            .position(|r| r == c)
            .unwrap_or_else(|| panic!("{c}: {:?}", system.ran))
    };
    let order = [
        position("iptables -t nat -D OUTPUT -j ISTIO_OUTPUT"),
        position("iptables -t nat -F ISTIO_OUTPUT"),
        position("iptables -t nat -X ISTIO_OUTPUT"),
        position("iptables-restore --noflush"),
    ];
    assert!(order.is_sorted(), "{:?}", system.ran);
}

#[test]
fn a_failing_command_says_what_is_needed() {
    struct NoRights;
    impl Runner for NoRights {
        fn run(&mut self, command: &Command) -> Result<String, String> {
            Err(format!("{}: Permission denied", command.program))
        }
    }
    let error = apply::with_iptables(&sidecar(), &mut NoRights).unwrap_err().to_string();
    assert!(
        error.contains("iptables-restore: Permission denied") && error.contains("NET_ADMIN"),
        "{error}"
    );
}

/// A kernel that lacks one thing: what `iptables -C` or `nft list` is asked for last.
struct Kernel {
    lacks: &'static str,
}

impl Runner for Kernel {
    fn run(&mut self, command: &Command) -> Result<String, String> {
        let line = format!("{} {}", command.program, command.args.join(" "));
        if command.program != "nft" {
            return if self.lacks.is_empty() || !line.contains(self.lacks) {
                Ok(String::new())
            } else {
                Err("Bad rule (does a matching rule exist in that chain?).".into())
            };
        }
        let [_, _, _, table, chain] = &command.args[..] else {
            panic!("{line}")
        };
        let rules = nftables::transaction(&program::rules(&sidecar()).unwrap());
        let rules = rules.lines().filter(|line| {
            (line.starts_with(&format!("add rule inet {table} {chain} "))
                || line.starts_with(&format!("insert rule inet {table} {chain} ")))
                && (self.lacks.is_empty() || !line.contains(self.lacks))
        });
        let rules: String = rules.map(|rule| format!("\t\t{rule}\n")).collect();
        Ok(format!(
            "table inet {table} {{\n\tchain {chain} {{\n\t\ttype nat hook output priority -100; policy accept;\n{rules}\t}}\n}}\n"
        ))
    }
}

#[test]
fn capture_is_in_force_when_every_rule_is_there() {
    let check = |config: &Config, lacks: &'static str, expected: bool| {
        let with_iptables = apply::in_force_with_iptables(config, &mut Kernel { lacks }).unwrap();
        assert_eq!(with_iptables, expected, "iptables without {lacks:?}");
    };
    check(&sidecar(), "", true);
    check(&sidecar(), "-C OUTPUT", false);
    // The second family counts where it is captured, and only there.
    check(&sidecar(), "ip6tables", true);
    let both = Config {
        enable_ipv6: true,
        ..sidecar()
    };
    check(&both, "ip6tables", false);

    let with_nftables = |lacks| apply::in_force_with_nftables(&sidecar(), &mut Kernel { lacks }).unwrap();
    assert!(with_nftables(""));
    assert!(!with_nftables("15006"));
}

proptest::proptest! {
    /// Rules are text that a privileged program reads: whatever a value holds, it makes no line of its own.
    #[test]
    fn no_value_smuggles_a_rule(
        field in 0usize..8,
        value in "[0-9a-z*,./ \n;-]{0,12}(\n-A INPUT -j DROP|; flush ruleset)?",
        tproxy: bool,
    ) {
        let mut config = sidecar();
        if tproxy {
            config.inbound_interception_mode = "TPROXY".into();
        }
        let fields = [
            &mut config.inbound_ports_include,
            &mut config.inbound_ports_exclude,
            &mut config.outbound_ports_include,
            &mut config.outbound_ip_ranges_include,
            &mut config.outbound_ip_ranges_exclude,
            &mut config.exclude_interfaces,
            &mut config.owner_groups_exclude,
            &mut config.proxy_uid,
        ];
        *fields.into_iter().nth(field).unwrap() = value;
        if let Ok(rules) = program::rules(&config) {
            let restore = iptables::restore(&rules, iptables::Version::V4);
            let known = |l: &str| ["* ", "-N ISTIO", "COMMIT", "-A ISTIO", "-I ISTIO", "-A PREROUTING", "-I PREROUTING", "-A OUTPUT"]
                .iter()
                .any(|start| l.starts_with(start));
            proptest::prop_assert!(restore.lines().all(known), "{}", restore);
            let nft = nftables::transaction(&rules);
            let ours = |l: &str| l.split_whitespace().any(|w| w.starts_with("istio-proxy-")) && !l.contains("ruleset");
            proptest::prop_assert!(nft.lines().all(ours), "{}", nft);
        }
    }
}
