//! 256-bit unsigned integers: targets and weights.
//!
//! Only what the rules of Chainweb need, exact. Bytes are little-endian, JSON is base64url of them.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::encoding;

/// An unsigned integer of 256 bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct U256([u64; 4]); // the least significant limb first

impl U256 {
    /// 0.
    pub const ZERO: Self = Self([0; 4]);
    /// 2^256 − 1, the easiest target.
    pub const MAX: Self = Self([u64::MAX; 4]);

    /// The integer with these limbs, the least significant first.
    pub const fn from_limbs(limbs: [u64; 4]) -> Self {
        Self(limbs)
    }

    /// The integer with these little-endian bytes.
    pub fn from_le_bytes(bytes: [u8; 32]) -> Self {
        let mut limbs = [0; 4];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*chunk);
        }
        Self(limbs)
    }

    /// The little-endian bytes.
    pub fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *chunk = limb.to_le_bytes();
        }
        bytes
    }

    /// The sum, or `None` where it needs more than 256 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let (sum, carry) = add(self.0, other.0);
        (!carry).then_some(Self(sum))
    }

    /// The quotient rounded down, or `None` for a division by zero.
    pub fn checked_div(self, divisor: Self) -> Option<Self> {
        let (quotient, _) = Wide::from(self).div_rem(Wide::from(divisor))?;
        quotient.narrow()
    }
}

impl From<u64> for U256 {
    fn from(value: u64) -> Self {
        Self([value, 0, 0, 0])
    }
}

impl Ord for U256 {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for U256 {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::LowerHex for U256 {
    /// 64 digits, the most significant first, as update streams print targets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|limb| write!(f, "{limb:016x}"))
    }
}

impl fmt::Display for U256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{self:x}")
    }
}

impl fmt::Debug for U256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "U256({self})")
    }
}

impl Serialize for U256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encoding::encode(&self.to_le_bytes()))
    }
}

impl<'de> Deserialize<'de> for U256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        encoding::decode_array(&text).map(Self::from_le_bytes).map_err(D::Error::custom)
    }
}

/// The 320 bits that intermediate results of the difficulty rules need: a target times a time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wide([u64; 5]);

impl Wide {
    pub(crate) const ZERO: Self = Self([0; 5]);

    /// `value * factor`, which always fits.
    pub(crate) fn product(value: U256, factor: u64) -> Self {
        let mut limbs = [0; 5];
        let mut carry = 0;
        for (limb, digit) in limbs.iter_mut().zip(value.0) {
            let product = u128::from(digit) * u128::from(factor) + carry;
            *limb = product as u64; // the low half; the high half is the carry
            carry = product >> 64;
        }
        limbs[4] = carry as u64;
        Self(limbs)
    }

    /// The sum; wraps beyond 320 bits, which no sum of fewer than 2^64 values of 256 bits reaches.
    pub(crate) fn wrapping_add(self, other: U256) -> Self {
        Self(add(self.0, Self::from(other).0).0)
    }

    /// Quotient and remainder, or `None` for a division by zero. Schoolbook: a step for each bit of the quotient.
    pub(crate) fn div_rem(self, divisor: Self) -> Option<(Self, Self)> {
        if divisor == Self::ZERO {
            return None;
        }
        let (mut quotient, mut remainder) = (Self::ZERO, self);
        let Some(steps) = self.width().checked_sub(divisor.width()) else { return Some((quotient, self)) };
        // As wide as the dividend, so no bit is lost.
        let mut part = (0..steps).fold(divisor, |part, _| part.doubled());
        for bit in (0..=steps).rev() {
            if !remainder.less_than(&part) {
                remainder = remainder.wrapping_sub(part);
                quotient.0[bit / 64] |= 1 << (bit % 64);
            }
            part = part.halved();
        }
        Some((quotient, remainder))
    }

    /// The quotient rounded up, or `None` for a division by zero.
    pub(crate) fn div_ceil(self, divisor: Self) -> Option<Self> {
        let (quotient, remainder) = self.div_rem(divisor)?;
        Some(if remainder == Self::ZERO { quotient } else { quotient.wrapping_add(U256::from(1)) })
    }

    /// The value, or `None` where it needs more than 256 bits.
    pub(crate) fn narrow(self) -> Option<U256> {
        let [a, b, c, d, 0] = self.0 else { return None };
        Some(U256([a, b, c, d]))
    }

    fn doubled(self) -> Self {
        let mut carry = 0;
        Self(self.0.map(|limb| {
            let doubled = limb << 1 | carry;
            carry = limb >> 63;
            doubled
        }))
    }

    fn halved(mut self) -> Self {
        let mut carry = 0;
        for limb in self.0.iter_mut().rev() {
            (*limb, carry) = (*limb >> 1 | carry << 63, *limb & 1);
        }
        self
    }

    /// The number of bits without leading zeros.
    fn width(&self) -> usize {
        let highest = self.0.iter().rposition(|limb| *limb != 0);
        highest.map_or(0, |at| 64 * at + (64 - self.0[at].leading_zeros() as usize))
    }

    fn less_than(&self, other: &Self) -> bool {
        self.0.iter().rev().lt(other.0.iter().rev())
    }

    fn wrapping_sub(self, other: Self) -> Self {
        let mut borrow = false;
        let mut limbs = [0; 5];
        for (limb, (a, b)) in limbs.iter_mut().zip(self.0.into_iter().zip(other.0)) {
            let (difference, first) = a.overflowing_sub(b);
            let (difference, second) = difference.overflowing_sub(u64::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
        Self(limbs)
    }
}

impl From<U256> for Wide {
    fn from(value: U256) -> Self {
        let [a, b, c, d] = value.0;
        Self([a, b, c, d, 0])
    }
}

impl From<u64> for Wide {
    fn from(value: u64) -> Self {
        Self([value, 0, 0, 0, 0])
    }
}

/// The sum modulo 2^(64 N), and whether it overflowed.
fn add<const N: usize>(a: [u64; N], b: [u64; N]) -> ([u64; N], bool) {
    let mut carry = false;
    let mut sum = [0; N];
    for (limb, (a, b)) in sum.iter_mut().zip(a.into_iter().zip(b)) {
        let (partial, first) = a.overflowing_add(b);
        let (partial, second) = partial.overflowing_add(u64::from(carry));
        *limb = partial;
        carry = first || second;
    }
    (sum, carry)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers of all magnitudes: random limbs, some of them zero or full.
    fn number() -> impl Strategy<Value = U256> {
        let limb = prop_oneof![Just(0), Just(u64::MAX), 0..9_u64, any::<u64>()];
        [limb.clone(), limb.clone(), limb.clone(), limb].prop_map(U256)
    }

    /// A naive number: little-endian digits of base 256.
    type Digits = Vec<u8>;

    fn digits(value: U256) -> Digits {
        value.to_le_bytes().to_vec()
    }

    fn sum(a: &[u8], b: &[u8]) -> Digits {
        let (mut out, mut carry) = (Vec::new(), 0);
        for place in 0..a.len().max(b.len()) + 1 {
            let digit = |number: &[u8]| u16::from(number.get(place).copied().unwrap_or(0));
            let total = digit(a) + digit(b) + carry;
            out.push(total as u8);
            carry = total >> 8;
        }
        out
    }

    fn product(a: &[u8], b: &[u8]) -> Digits {
        let mut out = vec![0];
        for (place, digit) in b.iter().enumerate() {
            let (mut row, mut carry) = (vec![0; place], 0);
            for other in a {
                let total = u16::from(*other) * u16::from(*digit) + carry;
                row.push(total as u8);
                carry = total >> 8;
            }
            row.push(carry as u8);
            out = sum(&out, &row);
        }
        out
    }

    fn trimmed(mut digits: Digits) -> Digits {
        while digits.last() == Some(&0) {
            digits.pop();
        }
        digits
    }

    fn wide_digits(value: Wide) -> Digits {
        value.0.iter().flat_map(|limb| limb.to_le_bytes()).collect()
    }

    proptest! {
        #[test]
        fn bytes_and_order_are_those_of_the_number(a in number(), b in number()) {
            prop_assert_eq!(U256::from_le_bytes(a.to_le_bytes()), a);
            let naive = |value: U256| { let mut bytes = value.to_le_bytes(); bytes.reverse(); bytes };
            prop_assert_eq!(a.cmp(&b), naive(a).cmp(&naive(b)));
            prop_assert_eq!(format!("{a:x}"), hex::encode(naive(a)));
        }

        #[test]
        fn a_sum_is_exact_or_none(a in number(), b in number()) {
            let exact = trimmed(sum(&digits(a), &digits(b)));
            match a.checked_add(b) {
                Some(total) => prop_assert_eq!(trimmed(digits(total)), exact),
                None => prop_assert!(exact.len() > 32),
            }
        }

        #[test]
        fn quotient_and_remainder_make_the_number_again(a in number(), factor in any::<u64>(), b in number()) {
            let dividend = Wide::product(a, factor);
            prop_assert_eq!(trimmed(wide_digits(dividend)), trimmed(product(&digits(a), &factor.to_le_bytes())));
            let Some((quotient, remainder)) = dividend.div_rem(Wide::from(b)) else {
                prop_assert_eq!(b, U256::ZERO);
                return Ok(());
            };
            prop_assert!(remainder.less_than(&Wide::from(b)));
            let back = sum(&product(&wide_digits(quotient), &digits(b)), &wide_digits(remainder));
            prop_assert_eq!(trimmed(back), trimmed(wide_digits(dividend)));
            let up = if remainder == Wide::ZERO { quotient } else { quotient.wrapping_add(U256::from(1)) };
            prop_assert!(dividend.div_ceil(Wide::from(b)) == Some(up));
        }
    }

    #[test]
    fn a_divisor_beyond_the_top_bit_divides() {
        let top = Wide([0, 0, 0, 0, 1 << 63]);
        let (quotient, remainder) = Wide([u64::MAX; 5]).div_rem(top).expect("not zero");
        assert!(
            quotient == Wide::from(1)
                && remainder == Wide([u64::MAX, u64::MAX, u64::MAX, u64::MAX, (1 << 63) - 1])
        );
        assert_eq!(U256::MAX.checked_div(U256::ZERO), None);
        assert_eq!(U256::MAX.checked_div(U256::from(1)), Some(U256::MAX));
    }
}
