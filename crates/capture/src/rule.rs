//! Tables, chains, and a rule in both dialects.

/// Where a rule applies. iptables has these tables built in; for nftables each is a table of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Marks and invalid packets.
    Mangle,
    /// Redirection.
    Nat,
    /// Connection-tracking zones.
    Raw,
}

impl Table {
    /// Name in iptables.
    pub fn iptables(self) -> &'static str {
        match self {
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Raw => "raw",
        }
    }

    /// Name in nftables (family `inet`).
    pub fn nftables(self) -> &'static str {
        match self {
            Self::Mangle => "istio-proxy-mangle",
            Self::Nat => "istio-proxy-nat",
            Self::Raw => "istio-proxy-raw",
        }
    }
}

/// A chain of a table: the kernel's two hooks, and ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chain {
    /// Hook: packets that arrive.
    Prerouting,
    /// Hook: packets of local processes.
    Output,
    /// Inbound packets.
    Inbound,
    /// To the outbound listener.
    Redirect,
    /// To the inbound listener.
    InRedirect,
    /// Outbound packets.
    IstioOutput,
    /// Outbound DNS packets.
    OutputDns,
    /// Packets of established connections in TPROXY mode.
    Divert,
    /// To the inbound listener, address kept.
    Tproxy,
    /// Invalid packets.
    Drop,
}

impl Chain {
    /// Name in iptables.
    pub fn iptables(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Output => "OUTPUT",
            Self::Inbound => "ISTIO_INBOUND",
            Self::Redirect => "ISTIO_REDIRECT",
            Self::InRedirect => "ISTIO_IN_REDIRECT",
            Self::IstioOutput => "ISTIO_OUTPUT",
            Self::OutputDns => "ISTIO_OUTPUT_DNS",
            Self::Divert => "ISTIO_DIVERT",
            Self::Tproxy => "ISTIO_TPROXY",
            Self::Drop => "ISTIO_DROP",
        }
    }

    /// Name in nftables.
    pub fn nftables(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Output => "output",
            Self::Inbound => "istio-inbound",
            Self::Redirect => "istio-redirect",
            Self::InRedirect => "istio-in-redirect",
            Self::IstioOutput => "istio-output",
            Self::OutputDns => "istio-output-dns",
            Self::Divert => "istio-divert",
            Self::Tproxy => "istio-tproxy",
            Self::Drop => "istio-drop",
        }
    }

    /// Whether the kernel owns the chain.
    pub fn is_hook(self) -> bool {
        matches!(self, Self::Prerouting | Self::Output)
    }
}

/// Which address family a rule is for. iptables keeps two sets of tables; nftables' `inet` holds both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Either.
    Any,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One rule. A dialect that needs no rule here has `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Table.
    pub table: Table,
    /// Chain.
    pub chain: Chain,
    /// Family.
    pub family: Family,
    /// Position counted from the head of the chain, or at its end.
    pub insert: Option<usize>,
    /// Matches and target, in iptables' words.
    pub iptables: Option<String>,
    /// Matches and statements, in nftables' words.
    pub nftables: Option<String>,
}
