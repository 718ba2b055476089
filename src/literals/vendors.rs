//! Keys of vendors, by their shape. A vendor that marks its keys is one line here.

use std::sync::LazyLock;

use super::shapes::Alphabet::{
    Alnum, Azure, Base64, Digits, Hex, HexDash, Lower, Mixed, Upper, Url,
};
use super::shapes::Part::{From, Range, Run, Text};
use super::shapes::{Part, Shape};

/// Name of the rule of a vendor whose key a text has.
pub(super) fn find(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    let mut before = b' ';
    for (at, byte) in bytes.iter().enumerate() {
        let starts = !before.is_ascii_alphanumeric();
        before = *byte;
        let Some(shapes) = starts
            .then(|| BY_FIRST_BYTE.get(usize::from(*byte)))
            .flatten()
        else {
            continue;
        };
        let rest = bytes.get(at..).unwrap_or_default();
        if let Some(shape) = shapes.iter().find(|shape| shape.is_prefix_of(rest)) {
            return Some(shape.rule);
        }
    }
    None
}

/// Shapes by the byte that they may begin with.
static BY_FIRST_BYTE: LazyLock<Vec<Vec<&Shape>>> = LazyLock::new(|| {
    let beginning_with = |byte| {
        SHAPES
            .iter()
            .filter(|shape| shape.may_begin_with(byte))
            .collect()
    };
    (0..128).map(beginning_with).collect()
});

/// Makes a shape from its name and parts.
const fn key(rule: &'static str, parts: &'static [Part]) -> Shape {
    Shape { rule, parts }
}

/// Shapes by vendor. Lengths are those that the vendors' keys have today, and "from" where they have changed before.
#[rustfmt::skip]
static SHAPES: &[Shape] = &[
    // Clouds
    key("aws-access-key", &[Text("AKIA"), Run(Upper, 16)]),
    key("aws-access-key", &[Text("ASIA"), Run(Upper, 16)]),
    key("aws-access-key", &[Text("ABIA"), Run(Upper, 16)]),
    key("aws-access-key", &[Text("ACCA"), Run(Upper, 16)]),
    key("aws-bedrock-key", &[Text("ABSK"), From(Base64, 100)]),
    key("google-api-key", &[Text("AIza"), Run(Url, 35)]),
    key("google-client-secret", &[Text("GOCSPX-"), Run(Url, 28)]),
    key("google-access-token", &[Text("ya29."), From(Url, 20)]),
    key("google-refresh-token", &[Text("1//0"), From(Url, 40)]),
    key("azure-client-secret", &[Run(Alnum, 3), Text("8Q~"), Range(Azure, 31, 36)]),
    key("azure-client-secret", &[Run(Alnum, 3), Text("7Q~"), Range(Azure, 31, 36)]),
    key("azure-devops-token", &[Run(Alnum, 76), Text("AZDO"), Run(Alnum, 4)]),
    key("digitalocean-token", &[Text("dop_v1_"), Run(Hex, 64)]),
    key("digitalocean-token", &[Text("doo_v1_"), Run(Hex, 64)]),
    key("digitalocean-token", &[Text("dor_v1_"), Run(Hex, 64)]),
    key("heroku-key", &[Text("HRKU-AA"), From(Url, 50)]),
    key("fly-token", &[Text("fm2_"), From(Base64, 80)]),
    // Code hosting and pipelines
    key("github-token", &[Text("ghp_"), Run(Alnum, 36)]),
    key("github-token", &[Text("gho_"), Run(Alnum, 36)]),
    key("github-token", &[Text("ghu_"), Run(Alnum, 36)]),
    key("github-token", &[Text("ghs_"), Run(Alnum, 36)]),
    key("github-token", &[Text("ghr_"), Run(Alnum, 36)]),
    key("github-token", &[Text("github_pat_"), From(Url, 60)]),
    key("gitlab-token", &[Text("glpat-"), From(Url, 20)]),
    key("gitlab-token", &[Text("glptt-"), Run(Hex, 40)]),
    key("gitlab-token", &[Text("glrt-"), From(Url, 20)]),
    key("gitlab-token", &[Text("gldt-"), From(Url, 20)]),
    key("gitlab-token", &[Text("glsoat-"), From(Url, 20)]),
    key("gitlab-token", &[Text("glcbt-"), From(Url, 20)]),
    key("bitbucket-password", &[Text("ATBB"), Run(Alnum, 32)]),
    key("atlassian-token", &[Text("ATATT3"), From(Base64, 100)]),
    key("linear-key", &[Text("lin_api_"), Run(Alnum, 40)]),
    // Packages and images
    key("npm-token", &[Text("npm_"), Run(Alnum, 36)]),
    key("pypi-token", &[Text("pypi-AgE"), From(Url, 50)]),
    key("rubygems-key", &[Text("rubygems_"), Run(Hex, 48)]),
    key("crates-token", &[Text("cio"), Run(Mixed, 32)]),
    key("nuget-key", &[Text("oy2"), Run(Lower, 43)]),
    key("docker-token", &[Text("dckr_pat_"), Run(Url, 27)]),
    key("docker-token", &[Text("dckr_oat_"), From(Url, 27)]),
    key("artifactory-key", &[Text("AKCp"), From(Alnum, 60)]),
    // Data platforms
    key("databricks-token", &[Text("dapi"), Run(Hex, 32)]),
    key("databricks-token", &[Text("dose"), Run(Hex, 32)]),
    key("dbt-cloud-token", &[Text("dbtc_"), From(Url, 30)]),
    key("dbt-cloud-token", &[Text("dbtu_"), From(Url, 30)]),
    key("confluent-secret", &[Text("cflt"), Run(Base64, 60)]),
    key("airtable-token", &[Text("pat"), Run(Alnum, 14), Text("."), Run(Hex, 64)]),
    key("supabase-token", &[Text("sbp_"), Run(Hex, 40)]),
    key("planetscale-password", &[Text("pscale_pw_"), From(Url, 32)]),
    key("planetscale-token", &[Text("pscale_tkn_"), From(Url, 32)]),
    // Stores of secrets
    key("vault-token", &[Text("hvs."), From(Url, 24)]),
    key("vault-token", &[Text("hvb."), From(Url, 90)]),
    key("vault-token", &[Text("hvr."), From(Url, 24)]),
    key("vault-token", &[Text("s."), Run(Mixed, 24)]),
    key("terraform-token", &[Run(Alnum, 14), Text(".atlasv1."), From(Url, 60)]),
    key("infisical-token", &[Text("st."), Run(Hex, 24), Text("."), Run(Hex, 32), Text("."), Run(Hex, 32)]),
    key("doppler-token", &[Text("dp.pt."), Run(Alnum, 43)]),
    key("doppler-token", &[Text("dp.st."), From(Url, 40)]),
    key("pulumi-token", &[Text("pul-"), Run(Hex, 40)]),
    key("onepassword-token", &[Text("ops_eyJ"), From(Url, 200)]),
    key("tailscale-key", &[Text("tskey-"), From(Url, 24)]),
    // Models
    key("openai-key", &[Text("sk-"), Run(Alnum, 20), Text("T3BlbkFJ"), Run(Alnum, 20)]),
    key("openai-key", &[Text("sk-proj-"), From(Url, 40)]),
    key("openai-key", &[Text("sk-svcacct-"), From(Url, 40)]),
    key("openai-key", &[Text("sk-admin-"), From(Url, 40)]),
    key("anthropic-key", &[Text("sk-ant-"), From(Url, 80)]),
    key("hugging-face-token", &[Text("hf_"), Run(Alnum, 34)]),
    key("replicate-token", &[Text("r8_"), Run(Alnum, 37)]),
    key("groq-key", &[Text("gsk_"), Run(Alnum, 52)]),
    key("perplexity-key", &[Text("pplx-"), Run(Alnum, 48)]),
    // Messages, mail and telephones
    key("slack-token", &[Text("xoxb-"), Range(Digits, 8, 14), Text("-"), From(Url, 20)]),
    key("slack-token", &[Text("xoxp-"), Range(Digits, 8, 14), Text("-"), From(Url, 20)]),
    key("slack-token", &[Text("xoxa-"), From(Url, 24)]),
    key("slack-token", &[Text("xoxe"), From(Azure, 60)]),
    key("slack-token", &[Text("xapp-"), Run(Digits, 1), Text("-"), From(Url, 40)]),
    key("slack-webhook", &[Text("hooks.slack.com/services/T"), Range(Upper, 8, 12), Text("/B"), Range(Upper, 8, 12), Text("/"), From(Alnum, 20)]),
    key("teams-webhook", &[Text("webhook.office.com/webhookb2/"), Run(HexDash, 36), Text("@"), Run(HexDash, 36), Text("/IncomingWebhook/"), Run(Hex, 32)]),
    key("discord-webhook", &[Text("discord.com/api/webhooks/"), Range(Digits, 17, 20), Text("/"), From(Url, 60)]),
    key("telegram-token", &[Range(Digits, 8, 10), Text(":AA"), Run(Url, 33)]),
    key("sendgrid-key", &[Text("SG."), Run(Url, 22), Text("."), Run(Url, 43)]),
    key("brevo-key", &[Text("xkeysib-"), Run(Hex, 64), Text("-"), Run(Alnum, 16)]),
    key("mailgun-key", &[Text("key-"), Run(Hex, 32)]),
    key("mailchimp-key", &[Run(Hex, 32), Text("-us"), Range(Digits, 1, 2)]),
    key("twilio-key", &[Text("SK"), Run(Hex, 32)]),
    // Payments and shops
    key("stripe-key", &[Text("sk_live_"), From(Alnum, 16)]),
    key("stripe-key", &[Text("sk_test_"), From(Alnum, 16)]),
    key("stripe-key", &[Text("rk_live_"), From(Alnum, 16)]),
    key("stripe-key", &[Text("rk_test_"), From(Alnum, 16)]),
    key("stripe-webhook-secret", &[Text("whsec_"), From(Base64, 24)]),
    key("square-token", &[Text("EAAA"), Run(Url, 60)]),
    key("paypal-token", &[Text("access_token$"), Range(Lower, 7, 10), Text("$"), Run(Lower, 16), Text("$"), Run(Hex, 32)]),
    key("shopify-token", &[Text("shpat_"), Run(Hex, 32)]),
    key("shopify-token", &[Text("shpca_"), Run(Hex, 32)]),
    key("shopify-token", &[Text("shppa_"), Run(Hex, 32)]),
    key("shopify-secret", &[Text("shpss_"), Run(Hex, 32)]),
    // Monitoring and other services
    key("grafana-token", &[Text("glsa_"), Run(Alnum, 32), Text("_"), Run(Hex, 8)]),
    key("grafana-token", &[Text("glc_eyJ"), From(Base64, 32)]),
    key("newrelic-key", &[Text("NRAK-"), Run(Upper, 27)]),
    key("sentry-token", &[Text("sntrys_eyJ"), From(Base64, 60)]),
    key("sentry-token", &[Text("sntryu_"), Run(Hex, 64)]),
    key("dynatrace-token", &[Text("dt0"), Run(Lower, 3), Text("."), Run(Upper, 24), Text("."), Run(Upper, 64)]),
    key("notion-token", &[Text("ntn_"), Run(Digits, 11), Run(Alnum, 35)]),
    key("postman-key", &[Text("PMAK-"), Run(Hex, 24), Text("-"), Run(Hex, 34)]),
    key("figma-token", &[Text("figd_"), From(Url, 40)]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_kebab_case_and_documented() {
        let names: BTreeSet<_> = SHAPES.iter().map(|shape| shape.rule).collect();
        let page = include_str!("../../docs/LITERALS.md");
        for name in names {
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
                "{name}"
            );
            assert!(
                page.contains(&format!("`{name}`")),
                "docs/LITERALS.md does not list {name}"
            );
        }
    }

    #[test]
    fn keys_are_found_at_the_start_of_a_word_alone() {
        let key = format!("dapi{}", "0123456789abcdef".repeat(2));
        for (before, found) in [
            ("", true),
            ("x=", true),
            ("ä", true),
            ("x", false),
            ("7", false),
        ] {
            assert_eq!(find(&format!("{before}{key}")).is_some(), found, "{before}");
        }
    }
}
