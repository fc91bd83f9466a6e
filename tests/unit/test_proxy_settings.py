"""What `HTTPS_PROXY` and `NO_PROXY` mean."""

import pytest

from consumer.masking import mask_secrets
from consumer.settings import Proxies, SettingsError, load
from consumer.settings.proxies import proxies_of

REQUIRED = {
    "SESAMY_CLIENT_ID": "client",
    "SESAMY_CLIENT_SECRET": "sesame",
    "MAILMOJO_API_TOKEN": "token",
    "MAILMOJO_LIST_ID": "7",
}


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("http://proxy.example.no:3128", "http://proxy.example.no:3128"),
        ("http://proxy.example.no:3128/", "http://proxy.example.no:3128"),
        ("proxy.example.no:3128", "http://proxy.example.no:3128"),
        ("http://me:hunter2222@proxy:3128", "http://proxy:3128"),
        ("me:hunter2222@proxy:3128", "http://proxy:3128"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        (" http://proxy:3128 ", "http://proxy:3128"),
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_p11_a_proxy_is_read_from_the_environment(name: str, value: str, url: str) -> None:
    proxy = load({**REQUIRED, name: value}).proxies.of("api.example.no", 443)
    assert proxy is not None
    assert (proxy.variable, proxy.url) == (name, url)


def test_p11_lower_case_goes_first_and_an_empty_value_means_none() -> None:
    assert proxies_of({"HTTPS_PROXY": "a:1", "https_proxy": "b:1"}).https == proxies_of({"https_proxy": "b:1"}).https
    assert proxies_of({"HTTPS_PROXY": "", "https_proxy": " "}) == Proxies()
    assert proxies_of({"HTTP_PROXY": "a:1"}) == Proxies()  # plain http is for this machine only
    upper = proxies_of({"HTTPS_PROXY": "a:1", "https_proxy": ""}).https
    assert upper is not None
    assert upper.variable == "HTTPS_PROXY"


@pytest.mark.parametrize(
    "value",
    [
        "https://proxy:3128",
        "socks5://proxy:1080",
        "ftp://proxy",
        "http://",
        "http://proxy..example:3128",
        "http://me:hunter2222@proxy..example:3128",
        "http://proxy:0",
        "http://proxy:99999",
        "http://me:hunter2222@proxy:port",
        "http://proxy/path",
        "http://proxy?a",
        "http://pro xy",
        "http://me%3Ayou:hunter2222@proxy",
        "hunter2222@",
        ":3128",
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_p11_a_wrong_proxy_is_a_wrong_setting_that_is_named_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({**REQUIRED, name: value})
    assert str(caught.value).startswith(f"{name} must ")
    assert "hunter" not in str(caught.value)
    assert load({name: value}, needs={"kafka"}).proxies == Proxies()  # which asks neither API


def test_p11_credentials_of_a_proxy_are_masked_and_not_printed() -> None:
    proxy = proxies_of({"HTTPS_PROXY": "http://me:hunter%402222@proxy"}).https
    assert proxy is not None
    assert proxy.authorization.value == "Basic bWU6aHVudGVyQDIyMjI="
    assert "hunter" not in repr(proxy)
    for said in ("hunter@2222", "hunter%402222", "me:hunter%402222@proxy", "bWU6aHVudGVyQDIyMjI="):
        masked = mask_secrets(said)
        assert "***" in masked
        assert "hunter" not in masked


@pytest.mark.parametrize(
    ("no_proxy", "host", "direct"),
    [
        ("", "api.example.no", False),
        ("*", "api.example.no", True),
        ("api.example.no", "api.example.no", True),
        ("API.Example.NO", "api.example.no.", True),
        ("example.no", "api.example.no", True),
        (".example.no", "api.example.no", True),
        (".example.no", "example.no", True),
        ("*.example.no", "api.example.no", True),
        ("ample.no", "api.example.no", False),
        ("api.example", "api.example.no", False),
        ("api.example.no:443", "api.example.no", True),
        ("api.example.no:8443", "api.example.no", False),
        ("a.no,b.no , example.no", "api.example.no", True),
        ("a.no example.no", "api.example.no", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.9/24", "192.0.2.7", True),
        ("192.0.3.0/24", "192.0.2.7", False),
        ("192.0.2.7:443", "192.0.2.7", True),
        ("2001:db8::/32", "2001:db8::7", True),
        ("[2001:db8::7]", "2001:db8::7", True),
        ("2001:db8::/32", "192.0.2.7", False),
        (",", "api.example.no", False),
        (".", "api.example.no", False),
        ("[", "api.example.no", False),
        ("a:b:c", "api.example.no", False),
        ("", "localhost", False),
        ("localhost,127.0.0.1,::1", "localhost", True),
        ("localhost,127.0.0.0/8", "127.8.9.1", True),
        ("localhost,::1", "::1", True),
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_p11_no_proxy_names_what_is_reached_directly(name: str, no_proxy: str, host: str, *, direct: bool) -> None:
    proxies = proxies_of({"HTTPS_PROXY": "http://proxy:3128", name: no_proxy})
    assert (proxies.of(host, 443) is None) is direct
