from consumer.masking import mask_addresses
from consumer.secret import Secret


def test_a_secret_is_masked_wherever_an_api_repeats_it() -> None:
    secret = Secret("s3cr3t-t0ken")
    assert (
        mask_addresses(f"refused: Bearer {secret.value} of kari@example.no") == "refused: Bearer *** of k***@example.no"
    )


def test_a_quoted_address_is_masked() -> None:
    assert mask_addresses('no: "quoted user"@example.com, sorry') == "no: q***@example.com, sorry"
