#!/usr/bin/env python3
"""Records what dbt makes of expressions in a profile, for tests of src/dbt.

usage: hack/adapters/test.sh update

It prints to standard output, by the dbt-core 1.11 of the environment `adapters`. Each line is a JSON list: the text, the variables, and the value or the error's type.
"""

import json
import sys

from dbt.config.renderer import ProfileRenderer
from dbt_common.context import set_invocation_context

VARIABLES = {
    "PORT": "5432",
    "LOWER": "true",
    "CAPITAL": "True",
    "ZEROS": "007",
    "RUBBISH": "rubbish",
    "WORDS": "a b",
    "JSON": '{"a": "b", "c": ["d"]}',
    "JSON_TRUE": '{"a": true}',
    "FRACTION": "1.5",
    "LINES": "-----BEGIN\nline\n-----END\n",
    "QUOTED": "'quoted'",
    "EMPTY": "",
    "JINJA": "{{ env_var('PORT') }}",
    "DBT_ENV_SECRET_ONE": "s3cret",
    "DBT_ENV_SECRETTWO": "other",
}

ONE = "env_var('DBT_ENV_SECRET_ONE')"
TWO = "env_var('DBT_ENV_SECRETTWO')"

TEXTS = [
    "plain",
    "",
    "line\n",
    "lines\n\n",
    "a\r\nb",
    "a }} b",
    "a %} b",
    "{{ env_var('PORT') }}",
    "{{ env_var('PORT') | as_number }}",
    "{{ env_var('PORT') | as_number }}\n",
    " {{ env_var('PORT') | as_number }}",
    "x{{ env_var('PORT') | as_number }}",
    "{{- env_var('PORT') | as_number -}}",
    "{# comment #}{{ env_var('PORT') | as_number }}",
    "{{ env_var('PORT') }}{{ env_var('PORT') }}",
    "{{ env_var('PORT') | int }}",
    "{{ env_var('PORT') | int + 1 }}",
    "{{ env_var('PORT') | float }}",
    "{{ env_var('PORT') | as_number | int }}",
    "{{ env_var('RUBBISH') | int }}",
    "{{ env_var('RUBBISH') | as_number }}",
    "{{ env_var('RUBBISH') | lower == 'true' }}",
    "{{ env_var('ZEROS') }}",
    "{{ env_var('ZEROS') | int }}",
    "{{ env_var('ZEROS') | as_number }}",
    "{{ env_var('FRACTION') | int }}",
    "{{ env_var('FRACTION') | as_number }}",
    "{{ env_var('LOWER') | as_bool }}",
    "{{ env_var('CAPITAL') | as_bool }}",
    "{{ env_var('LOWER') | lower == 'true' }}",
    "{{ env_var('CAPITAL') | lower == 'true' }}",
    "{{ env_var('CAPITAL') | string }}",
    "{{ not env_var('LOWER') }}",
    "{{ env_var('LOWER') in ['true', '1'] }}",
    "{{ 'a' if env_var('LOWER') == 'true' else 'b' }}",
    "{% if env_var('LOWER') == 'true' %}yes{% else %}no{% endif %}",
    "{% if env_var('LOWER') == 'true' %}{{ env_var('PORT') }}{% endif %}",
    "{{ env_var('JSON') | as_native }}",
    "{{ env_var('JSON_TRUE') | as_native }}",
    "{{ env_var('QUOTED') | as_native }}",
    "{{ env_var('JINJA') }}",
    "{{ env_var('LINES') }}",
    "{{ env_var('WORDS') | as_text }}",
    "{{ env_var('WORDS') | upper }}",
    "{{ env_var('WORDS') | trim }}",
    "{{ env_var('WORDS') | length }}",
    "{{ env_var('WORDS') | replace(' ', '_') }}",
    "{{ env_var('WORDS').upper() }}",
    "{{ env_var('WORDS').split(' ') }}",
    "{{ env_var('WORDS').split(' ')[0] }}",
    "{{ env_var('EMPTY') }}",
    "{{ env_var('EMPTY') | int }}",
    "{{ env_var('EMPTY') | as_number }}",
    "{{ env_var('MISSING') }}",
    "{{ env_var('MISSING', 'default') }}",
    "{{ env_var('MISSING', default='default') }}",
    "{{ env_var('MISSING', none) }}",
    "{{ env_var('MISSING', 5) }}",
    "{{ env_var('MISSING', '5432') | as_number }}",
    "{{ env_var('MISSING', 'it\\'s \\u007b\\u007b') }}",
    "{{ var('missing', 'default') }}",
    "{{ missing | default('default') }}",
    "{{ " + ONE + " }}",
    "{{ " + TWO + " }}",
    "user:{{ " + ONE + " }}@host",
    "{{ " + ONE + " }} {{ " + ONE + " }}",
    "{{ " + ONE + " }}{{ " + TWO + " }}",
    "{{ " + ONE + " }}\n{{ " + TWO + " }}\n",
    "{{ " + ONE + " | int }}",
    "{{ " + ONE + " | upper }}",
    "{{ " + ONE + " | as_number }}",
    "{{ env_var('DBT_ENV_SECRET_MISSING') }}",
    "{{ env_var('DBT_ENV_SECRET_MISSING', 'default') }}",
    "about DBT_ENV_SECRET",
    "{{ true }}",
    "{{ none }}",
    "{{ 1 + 2 }}",
    "{{ 1.0 }}",
    "{{ ' 12 ' | int }}",
    "{{ '0x10' | as_number }}",
    "{{ 'true' | as_bool }}",
    "{{ [1, 'a'] }}",
    "{{ 'it\\'s' }}",
    "{{ '}}' }}",
    "{{ \"a\" ~ 'b' }}",
    "{{ env_var('PORT') | nothing }}",
    "{{ nothing() }}",
    "{{ env_var('PORT' }}",
    "{{",
]


def main():
    for text in TEXTS:
        variables = {name: value for name, value in VARIABLES.items() if f"'{name}'" in text}
        set_invocation_context(variables)
        try:
            result = {"value": ProfileRenderer({}).render_value(text, ("outputs",))}
        except Exception as error:  # pylint: disable=broad-except
            result = {"error": type(error).__name__}
        print(json.dumps([text, variables, result]))


if __name__ == "__main__":
    sys.exit(main())
