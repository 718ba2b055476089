//! Names of variables that dbt hides in its logs: those that begin with `DBT_ENV_SECRET_`.

use injection::EnvVarName;

/// Prefix of the variables that dbt hides.
pub(crate) const MASK_PREFIX: &str = "DBT_ENV_SECRET_";

/// Prefix by which dbt recognizes such a variable: without the last underscore.
pub(crate) const DBT_SECRET_PREFIX: &str = "DBT_ENV_SECRET";

/// Prefix of names by the floe spec. It is replaced, not repeated.
const SPEC_PREFIX: &str = "FLOE_SECRET_";

/// Characters of a variable in `env.<VAR>`: an annotation's name ends at 63 after the prefix.
pub(crate) const MAX_ALIAS: usize = 59;

/// Hexadecimal digits of the hash in a shortened name.
const HASH_DIGITS: usize = 6;

/// Name of a masked variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MaskedName {
    pub variable: EnvVarName,
    /// Whether the name was too long for an annotation.
    pub is_shortened: bool,
}

/// Name under which dbt hides the variable. A name that is too long ends in a hash of all of it. Two names may get the
/// same hash, which the check for conflicts between variables reports.
///
/// # Errors
/// Never for a valid name: the prefix and the characters of the name are those of a variable.
pub(crate) fn masked_name(variable: &EnvVarName) -> Result<MaskedName, injection::NameError> {
    let name = variable.as_str();
    let long = format!(
        "{MASK_PREFIX}{}",
        name.strip_prefix(SPEC_PREFIX).unwrap_or(name)
    );
    let is_shortened = long.len() > MAX_ALIAS;
    let name = if is_shortened {
        let kept: String = long.chars().take(MAX_ALIAS - HASH_DIGITS - 1).collect();
        format!("{kept}_{:06X}", hash(&long) & 0x00FF_FFFF)
    } else {
        long
    };
    Ok(MaskedName {
        variable: name.parse()?,
        is_shortened,
    })
}

/// FNV-1a, 64 bits, its halves combined: stable across versions and machines.
fn hash(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> MaskedName {
        masked_name(&text.parse().unwrap()).unwrap()
    }

    #[rstest::rstest]
    #[case("SNOWFLAKE_PASSWORD", "DBT_ENV_SECRET_SNOWFLAKE_PASSWORD")]
    #[case("FLOE_SECRET_DB_PASSWORD", "DBT_ENV_SECRET_DB_PASSWORD")]
    fn masked_names_begin_as_dbt_wants(#[case] plain: &str, #[case] masked: &str) {
        assert_eq!(name(plain).variable.as_str(), masked);
        assert!(!name(plain).is_shortened);
    }

    #[test]
    fn names_at_the_limit_stay_and_longer_ones_end_in_a_hash() {
        let longest = format!("FLOE_SECRET_{}", "A".repeat(MAX_ALIAS - MASK_PREFIX.len()));
        assert!(!name(&longest).is_shortened);
        assert_eq!(name(&longest).variable.as_str().len(), MAX_ALIAS);
        let (one, other) = (name(&format!("{longest}A")), name(&format!("{longest}B")));
        assert!(one.is_shortened && other.is_shortened);
        assert_eq!(one.variable.as_str().len(), MAX_ALIAS);
        assert_ne!(one.variable, other.variable);
    }

    #[test]
    fn shortened_name_is_the_same_in_every_version() {
        let long = format!("FLOE_SECRET_{}", "A".repeat(100));
        let expected = format!("DBT_ENV_SECRET_{}_F076BE", "A".repeat(37));
        assert_eq!(name(&long).variable.as_str(), expected);
    }
}
