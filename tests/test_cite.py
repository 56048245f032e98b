"""What to cite: facts, BibTeX that parses, and works found in whatever was used."""

import re
import tomllib
import unicodedata
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
import yaml

import infer
from infer.references import software
from infer.references.citation import cited
from infer.references.software import BLACKJAX, JAX, NUMPYRO

ROOT = Path(__file__).resolve().parents[1]
ALGORITHMS = infer.algorithms()
CITED = {thing: works for thing, works in cited().items() if callable(thing)}
NAMES = [f"{thing.__module__}.{thing.__name__}" for thing in CITED]
SOFTWARE = {work for work in vars(software).values() if isinstance(work, infer.Citation)}
NEEDED = {
    "article": {"author", "title", "journal", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "incollection": {"author", "title", "booktitle", "year"},
    "book": {"author", "title", "publisher", "year"},
    "phdthesis": {"author", "title", "school", "year"},
    "misc": {"author", "title", "howpublished", "year"},
}


def parse(text):
    """Entries by key, of a strict subset of BibTeX: comments, and entries with braced fields."""
    entries = {}
    comments = [line for line in text.split("\n") if line.startswith("%")]
    assert "@" not in "".join(comments), "BibTeX takes an @ for an entry, whatever stands before it"
    rest = "".join(line + "\n" for line in text.split("\n") if not line.startswith("%")).strip()
    while rest:
        head = re.match(r"@([a-z]+)\{([a-z0-9]+),\s*", rest)
        assert head, f"no entry begins with {rest[:40]!r}"
        kind, key = head.groups()
        rest, fields = rest[head.end() :], {}
        while not rest.startswith("}"):
            name = re.match(r"([a-z]+) = \{", rest)
            assert name, f"no field begins with {rest[:40]!r}"
            depth, end = 1, name.end()
            while depth:
                assert end < len(rest), "a brace is not closed"
                depth += {"{": 1, "}": -1}.get(rest[end], 0)
                end += 1
            assert name[1] not in fields, f"{key} has two fields {name[1]}"
            fields[name[1]] = rest[name.end() : end - 1]
            after = re.match(r",\s*", rest[end:])
            assert after, f"no comma after {name[0]}"
            rest = rest[end + after.end() :]
        assert key not in entries, f"two entries {key}"
        assert NEEDED[kind] <= fields.keys(), f"{key} lacks {NEEDED[kind] - fields.keys()}"
        assert all(fields.values()) and re.fullmatch(r"(19|20)\d\d", fields["year"]), fields
        entries[key] = fields
        rest = rest[1:].strip()
    return entries


GOOD = """% note
@misc{a2020b,
  author = {A, B},
  title = {{C}},
  howpublished = {D},
  year = {2020},
}"""


def test_the_parser_reads_what_is_right_and_nothing_else():
    assert parse(GOOD)["a2020b"]["title"] == "{C}"
    for old, new in [
        ("},\n}", "}\n}"),
        ("{{C}}", "{{C}"),
        ("year = {2020}", "year = {}"),
        ("  title", "  note = {x},\n  note"),
        ("misc", "article"),
        ("% note", "note"),
        ("% note", "% a note @ b"),
        ("a2020b", "a b"),
    ]:
        with pytest.raises(AssertionError):
            parse(GOOD.replace(old, new))
    with pytest.raises(AssertionError, match="two entries"):
        parse(GOOD + "\n" + GOOD)


def plain(text):
    text = text.replace("ø", "o").replace("ł", "l")
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def source(thing):
    """The paragraph of a docstring that begins with "Source:"."""
    found = re.search(r"Source:\s(.*?)(\n\s*\n|$)", thing.__doc__ or "", re.DOTALL)
    return plain(" ".join(found[1].split())) if found else ""


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_is_cited_with_its_parts(name):
    bibliography = infer.cite(ALGORITHMS[name]())
    entries = parse(str(bibliography))
    assert tuple(entries) == bibliography.keys and not bibliography.missing
    assert str(bibliography).isascii()
    assert {"jax2018github", "infer2026"} < set(entries)
    main = CITED[ALGORITHMS[name]][0]
    assert bibliography.citations[0] is main and entries[main.key]["year"] == str(main.year)
    assert bibliography.text.startswith(f"{name}: {main.short}")


@pytest.mark.parametrize("thing", CITED, ids=NAMES)
def test_every_part_that_cites(thing):
    entries = parse(infer.cite(thing).bibtex)
    assert {work.key for work in CITED[thing]} <= set(entries)


OURS = [thing for thing in CITED if thing.__module__.startswith("infer") and thing.__doc__]


@pytest.mark.parametrize("thing", OURS, ids=lambda thing: thing.__name__)
def test_docstrings_and_entries_name_the_same_works(thing):
    said, works = source(thing), [w for w in CITED[thing] if w not in SOFTWARE]
    if not said:  # what a public function or class makes, whose docstring has the source
        assert not works or any(set(works) <= set(CITED[o]) for o in OURS if source(o))
        return
    for work in works:
        first, *others = map(plain, work.families)
        assert first in said and str(work.year) in said, (work.short, said)
        assert f"{first} et al." in said or all(name in said for name in others), work.text
    said = re.sub(r"arXiv:?\s?[\d.]+", "", said)
    years = {int(year) for year in re.findall(r"\b(?:19|20)\d\d\b", said)}
    assert years <= {work.year for work in CITED[thing]}, said


def test_every_export_with_a_source_cites():
    exports = [thing for thing in vars(infer).values() if callable(thing)]
    places = (infer.regularizers, infer.likelihoods, infer.diagnostics, infer.flows)
    parts = [thing for place in places for thing in vars(place).values()]
    named = {thing for thing in [*exports, *parts] if callable(thing) and source(thing)}
    assert len(named) > 100 and named <= CITED.keys()


def test_keys_are_those_of_one_work_each():
    works = {work for found in CITED.values() for work in found} | SOFTWARE
    keys = [work.key for work in works]
    assert len(keys) > 120 and len(set(keys)) == len(keys)
    titles = [plain(work.title).lower() for work in works]
    assert len(set(titles)) == len(titles)


def test_a_work_in_words_and_as_an_entry():
    work = infer.Citation(
        "Särkkä, Simo and Øst, Błażej",
        "On the L2-discrepancy of MCMC: when Langevin meets MALA",
        "Chapman & Hall",
        2007,
        infer.EntryType.BOOK,
    )
    assert work.key == "sarkka2007l2" and work.short == "Särkkä and Øst (2007)"
    assert work.text == (
        "Särkkä, Simo and Øst, Błażej. On the L2-discrepancy of MCMC: when Langevin meets MALA. "
        "Chapman & Hall, 2007."
    )
    fields = parse(work.bibtex)["sarkka2007l2"]
    assert fields["author"] == r"S{\"{a}}rkk{\"{a}}, Simo and {\O}st, B{\l}a{\.{z}}ej"
    assert fields["title"] == "On the {L2}-discrepancy of {MCMC}: when {Langevin} meets {MALA}"
    assert fields["publisher"] == r"Chapman \& Hall"
    three = infer.Citation("A, B and C, D and E, F", "G", "H", 2001)
    assert three.short == "A et al. (2001)"
    with pytest.raises(ValueError, match="Family, Given"):
        infer.Citation("Simo Särkkä", "A title", "A journal", 2007)
    with pytest.raises(ValueError, match="needs a title"):
        infer.Citation("Särkkä, Simo", "!", "A journal", 2007)
    with pytest.raises(ValueError, match="close each"):
        infer.Citation("Särkkä, Simo", "A {title", "A journal", 2007)
    with pytest.raises(TypeError, match="write @infer.cites"):
        infer.cites("Särkkä 2007")


def families(bibliography):
    return {f"{work.families[0]} {work.year}" for work in bibliography.citations}


def test_parts_are_found_wherever_they_are():
    by_site = {"a": infer.Score(), "b": infer.Path()}
    product = infer.Product({"a": infer.StudentT(infer.LowRank()), "b": infer.RealNVP()})
    vi = infer.VI(
        product,
        estimator=infer.BySite(by_site),
        optimizer=infer.coin(),
        clip=infer.MedianClip(),
    )
    assert families(infer.cite(vi)) >= {
        "Kucukelbir 2017",
        "Saul 1995",
        "Kotz 2004",
        "Ong 2018",
        "Dinh 2017",
        "Williams 1992",
        "Roeder 2017",
        "Sharrock 2023",
        "Midgley 2023",
    }
    assert "Kingma 2015" not in families(infer.cite(vi))
    assert infer.cite(infer.ADVI()) == infer.cite(infer.VI(infer.MeanField()))
    rows = infer.VAE(
        infer.likelihoods.Bernoulli(),
        latent=2,
        objective=infer.IWAE(),
        regularizers=(infer.regularizers.SlicedWasserstein(),),
    )
    assert {"Kingma 2014", "Burda 2016", "Kolouri 2019"} <= families(infer.cite(rows))
    schedule = infer.SGLD(step_size=infer.cyclical_steps(0.01, length=100))
    assert "Zhang 2020" in families(infer.cite(schedule))
    named = infer.cite("NUTS", infer.NUTS, "coin")
    assert named.citations[:4] == (*CITED[infer.NUTS], *CITED[infer.coin])
    assert named.citations[-2] is JAX and infer.cite().citations == named.citations[-2:]
    assert infer.cite(infer.Diagonal()) == infer.cite()  # of our own design


class Own(eqx.Module):
    """A kernel of somebody's own."""

    width: float = 1.0


def test_what_has_no_entry_is_refused_alone_and_told_within():
    for thing in (Own(), Own, 3, lambda x: x, np.ones(3), [infer.NUTS], dist.Normal(0.0, 1.0)):
        with pytest.raises(TypeError, match=r"@infer\.cites\(infer\.Citation\("):
            infer.cite(thing)
    with pytest.raises(ValueError, match=r"no 'NUTZ'.*infer.cite\('NUTS'\).*RealNVP"):
        infer.cite("NUTZ")
    assert infer.cite(optax.adam(0.01)).missing[0].startswith("optimizer; it forgot its name")
    made = infer.cite(infer.VI(optimizer=optax.adam(0.01)))
    assert len(made.missing) == 1 and "infer.optimizer(optax.adam" in made.missing[0]
    assert f"% without an entry: {made.missing[0]}" in str(made)
    parse(str(made))


def test_a_class_of_ones_own_can_have_an_entry():
    work = infer.Citation("Doe, Jane", "A sampler", "Journal of Samplers", 2026)

    @infer.cites(work)
    class Mine(eqx.Module):
        kernel: eqx.Module

    assert infer.cite(Mine(infer.RBF())).citations[0] is work
    inside = infer.cite(Mine(Own()))
    assert inside.citations[0] is work and inside.missing[0].startswith("kernel Own; decorate ")
    parse(str(inside))


def schools(y=None):
    shares = numpyro.sample("shares", dist.Dirichlet(jnp.ones(3)))
    numpyro.sample("y", dist.Normal(shares[0], 1.0), obs=y)


def test_targets_cite_their_language_and_their_coordinates():
    target = infer.from_numpyro(schools, y=jnp.array(0.3))
    assert infer.cite(target).citations[:-2] == (NUMPYRO,)
    assert "Shi 2022" in families(infer.cite(infer.mirrored(target)))


def test_results_cite_algorithm_and_target_and_files_what_they_know(tmp_path):
    target = infer.from_log_density(lambda x: -0.5 * x**2, jnp.zeros(()))
    algorithm = infer.ULA()
    result = infer.fit(target, algorithm, key=0, warmup=0, steps=8, chains=1)
    full = result.cite()
    assert full == infer.cite(result) == infer.cite(algorithm) and BLACKJAX not in full.citations
    assert f"version {result.made['infer']}" in str(full)
    result.save(tmp_path / "fit")
    bare = infer.load(tmp_path / "fit").cite()
    assert bare.citations == full.citations
    assert [line.split(",")[0] for line in bare.missing] == [
        "the algorithm and its parts",
        "the target and its parts",
    ]
    assert infer.load(tmp_path / "fit", target, algorithm).cite() == full
    result.made = result.made | {"infer": "0.0.9"}
    other = infer.load(tmp_path / "fit", target, algorithm)
    assert f"version 0.0.9, {other.made['infer']}" in str(infer.cite(result, other))


def test_the_file_for_repositories_agrees_with_the_package():
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    package = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert said["cff-version"] == "1.2.0" and said["title"] == "infer"
    assert str(said["version"]) == package["version"] and said["license"] == package["license"]
    assert said["abstract"] == package["description"] and said["keywords"] == package["keywords"]
    assert said["authors"] == [{"name": infer.cite().citations[-1].families[0]}]
    assert {"message", "type"} <= said.keys()
