//! Builds the text of a command that executes code: the same input, the same bytes.

use std::fmt::Write as _;

use crate::graph::ChainId;
use crate::json;

/// Longest time to live that nodes accept. Seconds.
pub const MAX_TTL: u64 = 172_800;

/// A capability that a signature is scoped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability<'a> {
    /// The qualified name, such as `coin.GAS`.
    pub name: &'a str,
    /// The arguments: a JSON list.
    pub args: &'a str,
}

impl Capability<'static> {
    /// `(coin.GAS)`: the right to pay for the gas of the command.
    pub const GAS: Self = Self { name: "coin.GAS", args: "[]" };
}

/// What goes into the text of a command.
#[derive(Clone, Debug)]
pub struct Exec<'a> {
    /// Name of the network.
    pub network: &'a str,
    /// Pact code. Never blank: a node accepts that, and then stops making blocks.
    pub code: &'a str,
    /// A JSON value that goes into the text as it stands.
    pub data: &'a str,
    /// Ed25519 public keys in hex, each with the capabilities it signs for.
    pub signers: &'a [(&'a str, &'a [Capability<'a>])],
    /// The chain it is for.
    pub chain: ChainId,
    /// The account that pays.
    pub sender: &'a str,
    /// Most gas to use, at least 1.
    pub gas_limit: u64,
    /// KDA for one unit of gas: a JSON number, such as `1e-8`. At most 12 decimal places.
    pub gas_price: &'a str,
    /// How long it may wait. Seconds, 1 to [`MAX_TTL`].
    pub ttl: u64,
    /// From when it counts. Seconds since 1970.
    pub creation_time: i64,
    /// Tells commands apart that are equal otherwise.
    pub nonce: &'a str,
}

/// Why no node would accept the command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// There is no code.
    #[error("code is blank")]
    Blank,
    /// A part that has to be JSON is not.
    #[error("{0} is not JSON")]
    NotJson(&'static str),
    /// The gas price is not a positive decimal of at most 12 places.
    #[error("gas price {0:?} is not a positive decimal of at most 12 places")]
    GasPrice(String),
    /// There is no gas.
    #[error("gas limit is 0")]
    NoGas,
    /// The time to live is out of range.
    #[error("time to live of {0} s, 1 to {MAX_TTL} s are allowed")]
    Ttl(u64),
    /// No signer, so nobody pays.
    #[error("no signer")]
    NoSigner,
}

impl Exec<'_> {
    /// The text of the command.
    ///
    /// # Errors
    /// [`ExecError`] for what every node refuses, or should.
    pub fn to_cmd(&self) -> Result<String, ExecError> {
        self.check()?;
        let mut out = String::from("{\"networkId\":");
        json::write_string(&mut out, self.network);
        out.push_str(",\"payload\":{\"exec\":{\"code\":");
        json::write_string(&mut out, self.code);
        out.push_str(",\"data\":");
        out.push_str(self.data);
        out.push_str("}},\"signers\":[");
        for (index, (key, capabilities)) in self.signers.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { "," });
            out.push_str("{\"scheme\":\"ED25519\",\"pubKey\":");
            json::write_string(&mut out, key);
            out.push_str(",\"clist\":[");
            for (index, capability) in capabilities.iter().enumerate() {
                out.push_str(if index == 0 { "{\"name\":" } else { ",{\"name\":" });
                json::write_string(&mut out, capability.name);
                out.push_str(",\"args\":");
                out.push_str(capability.args);
                out.push('}');
            }
            out.push_str("]}");
        }
        out.push_str("],\"meta\":{\"chainId\":");
        json::write_string(&mut out, &self.chain.to_string());
        out.push_str(",\"sender\":");
        json::write_string(&mut out, self.sender);
        let (gas, price, ttl, time) = (self.gas_limit, self.gas_price, self.ttl, self.creation_time);
        write!(
            out,
            ",\"gasLimit\":{gas},\"gasPrice\":{price},\"ttl\":{ttl},\"creationTime\":{time}}},\"nonce\":"
        )
        .expect("writing to a string does not fail");
        json::write_string(&mut out, self.nonce);
        out.push('}');
        Ok(out)
    }

    fn check(&self) -> Result<(), ExecError> {
        if self.code.trim().is_empty() {
            return Err(ExecError::Blank);
        }
        if !json::is_json(self.data) {
            return Err(ExecError::NotJson("data"));
        }
        let mut capabilities = self.signers.iter().flat_map(|(_, capabilities)| *capabilities);
        if !capabilities.all(|capability| json::is_json(capability.args)) {
            return Err(ExecError::NotJson("arguments of a capability"));
        }
        if units(self.gas_price).is_none_or(|price| price == 0) {
            return Err(ExecError::GasPrice(self.gas_price.to_owned()));
        }
        if self.gas_limit == 0 {
            return Err(ExecError::NoGas);
        }
        if !(1..=MAX_TTL).contains(&self.ttl) {
            return Err(ExecError::Ttl(self.ttl));
        }
        if self.signers.is_empty() {
            return Err(ExecError::NoSigner);
        }
        Ok(())
    }
}

/// An amount of the chain's coin, as a JSON number of at most 12 decimal places and 64 characters, in 10^-12 of the coin;
/// `None` for any other text, a negative number, or more than 2^127 such parts.
pub fn units(text: &str) -> Option<u128> {
    const PLACES: i64 = 12;
    if !text.starts_with(|first: char| first.is_ascii_digit()) || text.len() > 64 || !json::is_json(text) {
        return None;
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let zeros = digits.len() - significant.len();
    // Behind the point stand so many of the significant digits.
    let places = i64::try_from(fraction.len()).ok()?.checked_sub(i64::try_from(zeros).ok()?)?;
    let shift = PLACES.checked_sub(places.checked_sub(exponent.parse::<i64>().ok()?)?)?;
    let scale = 10_u128.checked_pow(u32::try_from(shift).ok()?)?;
    significant.parse::<u128>().ok()?.checked_mul(scale).filter(|units| *units <= u128::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor() -> Exec<'static> {
        Exec {
            network: "development",
            code: "(read-msg \"killick\")",
            data: r#"{"killick":"killick/1 sha256 3 abc"}"#,
            signers: &[(
                "368820f80c324bbc7c2b0610688a7da43e39f91d118732671cd9c7500ff43cca",
                &[Capability::GAS],
            )],
            chain: ChainId(8),
            sender: "sender00",
            gas_limit: 2500,
            gas_price: "1e-8",
            ttl: 28_800,
            creation_time: 1_795_228_496,
            nonce: "a/1",
        }
    }

    #[test]
    fn the_text_of_a_command_is_fixed_to_the_byte() {
        assert_eq!(
            anchor().to_cmd().as_deref(),
            Ok(concat!(
                r#"{"networkId":"development","payload":{"exec":{"code":"(read-msg \"killick\")","#,
                r#""data":{"killick":"killick/1 sha256 3 abc"}}},"signers":[{"scheme":"ED25519","#,
                r#""pubKey":"368820f80c324bbc7c2b0610688a7da43e39f91d118732671cd9c7500ff43cca","#,
                r#""clist":[{"name":"coin.GAS","args":[]}]}],"meta":{"chainId":"8","sender":"sender00","#,
                r#""gasLimit":2500,"gasPrice":1e-8,"ttl":28800,"creationTime":1795228496},"nonce":"a/1"}"#,
            ))
        );
    }

    #[test]
    fn what_no_node_should_get_is_not_built() {
        let cases = [
            (Exec { code: " \n", ..anchor() }, ExecError::Blank),
            (Exec { data: "{", ..anchor() }, ExecError::NotJson("data")),
            (Exec { data: "1,\"x\":2", ..anchor() }, ExecError::NotJson("data")),
            (Exec { gas_limit: 0, ..anchor() }, ExecError::NoGas),
            (Exec { ttl: 0, ..anchor() }, ExecError::Ttl(0)),
            (Exec { ttl: MAX_TTL + 1, ..anchor() }, ExecError::Ttl(MAX_TTL + 1)),
            (Exec { signers: &[], ..anchor() }, ExecError::NoSigner),
        ];
        for (exec, error) in cases {
            assert_eq!(exec.to_cmd(), Err(error));
        }
    }

    #[test]
    fn amounts_are_read_to_the_last_of_twelve_places() {
        for (text, expected) in [
            ("1", 1_000_000_000_000),
            ("1e-12", 1),
            ("0.000000000001", 1),
            ("10.50", 10_500_000_000_000),
            ("1.5E2", 150_000_000_000_000),
            ("100e-14", 1),
            ("0", 0),
            ("0.000e5", 0),
        ] {
            assert_eq!(units(text), Some(expected), "{text}");
        }
        for text in ["", "-1", "1e-13", "01", ".5", "1.", "1e30", "1e999999999999999999999", "NaN", "0x1"] {
            assert_eq!(units(text), None, "{text}");
        }
    }

    #[test]
    fn a_gas_price_is_a_positive_number_of_at_most_twelve_places() {
        let priced = |gas_price| Exec { gas_price, ..anchor() }.to_cmd().map(drop);
        for price in
            ["1e-8", "0.00000001", "1.0e-12", "1", "10", "0.0000000000010", "1e-12", "100e-14", "1E-8"]
        {
            assert_eq!(priced(price), Ok(()), "{price}");
        }
        for price in
            ["", "0", "0.0", "-1", "1e-13", "0.0000000000001", "1e", "+1", "01", ".5", "1,2", "NaN", " 1"]
        {
            assert_eq!(priced(price), Err(ExecError::GasPrice(price.to_owned())), "{price:?}");
        }
    }
}
