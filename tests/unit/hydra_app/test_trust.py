from __future__ import annotations

import re

import pytest

from besom.errors import InputError
from besom.hydra_app.trust import refuse_untrusted


def no(question: str) -> bool:
    return False


@pytest.mark.parametrize(
    "target",
    [
        *("besom.data.digits", "besom.data.image_folder", "besom.model.CNN", "torch.optim.AdamW", "torch.nn.ReLU"),
        *("torch.nn.CrossEntropyLoss", "torch.optim.lr_scheduler.OneCycleLR", "torchvision.models.resnet18"),
        *("torchvision.transforms.v2.RandomErasing", "torchmetrics.Accuracy", "torch.nn.modules.conv.Conv2d"),
    ],
)
def test_what_the_libraries_have_to_train_with_is_trusted(target):
    refuse_untrusted({"model": {"_target_": target, "more": [{"_target_": "torch.nn.Linear"}]}}, (), no)


@pytest.mark.parametrize(
    "target",
    [
        *("torch.load", "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.jit.load", "torch.save"),
        *("torch.os.system", "torchvision.os.popen", "torch.utils.cpp_extension.load_inline", "torch.sys.exit"),
        *("torch.serialization.load", "torch.multiprocessing.spawn", "torch.utils.benchmark.Timer", "torch.compile"),
        *("torch.distributed.run.main", "torch.utils.collect_env.run", "torch.package.PackageImporter"),
        *("pytorch_lightning.LightningModule.load_from_checkpoint", "pytorch_lightning.cli.LightningCLI"),
        *(
            "besom.cli.main",
            "besom.terminal.live.Live",
            "besom.engine.launch.kill_all",
            "besom.model.Classifier.load_from_checkpoint",
        ),
        *("torch.importlib.import_module", "torch.ops.load_library", "torch.classes.load_library"),
    ],
)
def test_what_loads_or_executes_is_never_taken(target):
    with pytest.raises(InputError, match=re.escape(f"model._target_={target}")):
        refuse_untrusted({"model": {"_target_": target}}, (), no)


@pytest.mark.parametrize(
    ("config", "where"),
    [
        ({"model": {"layers": [1, {"_target_": "psutil.Popen", "args": ["sh"]}]}}, "model.layers[1]._target_"),
        ({"a": {"b": {"_target_": "subprocess.run"}}}, "a.b._target_"),
        ({"_target_": "builtins.eval"}, "_target_"),
        ({"model": {"activation": "subprocess.Popen"}}, "model.activation"),
        ({"model": {"_target_": "${oc.env:EVIL}"}}, "model._target_"),
        ({"model": {"_target_": ["os.system"]}}, "model._target_"),
        ({"model": "${oc.decode:'{_target_: os.system}'}"}, "model="),
        ({"model": "${oc.create:{_target_:os.system}}"}, "model="),
        ({"a": ["x", "a ${oc.select:b,${oc.decode:c}} b"], "b": 1}, "a[1]="),
        ({"name": "oc.decode", "model": "${${name}:'{_target_: os.system}'}"}, "model="),
        ({"model": "${resolver_of_somebody: 1}"}, "model="),
        ({"name": "os.system", "model": {"activation": "${name}"}}, "model.activation"),
        ({"model": {"_target_": "hydra.utils.get_method"}}, "model._target_"),
    ],
)
def test_a_name_that_nobody_trusts_is_refused_wherever_it_stands(config, where):
    with pytest.raises(InputError, match=re.escape(where)):
        refuse_untrusted(config, (), no)


def test_what_only_looks_a_value_up_is_taken():
    config = {
        "seed": 0,
        "model": {"classes": "${data.classes}"},
        "home": "${oc.env:HOME,/tmp}/x",
        "n": "${oc.select:seed}",
        "mode": "${besom.mode:${seed}}",
    }
    refuse_untrusted(config, (), no)


def test_a_package_that_the_user_names_is_trusted_but_for_what_executes():
    refuse_untrusted({"model": {"_target_": "sklearn.svm.SVC"}}, ("sklearn",), no)
    with pytest.raises(InputError, match=r"sklearn\.svm\.SVC.*--trust sklearn"):
        refuse_untrusted({"model": {"_target_": "sklearn.svm.SVC"}}, (), no)
    for target in ("pandas.read_pickle", "joblib.load", "sklearn.os.system"):
        with pytest.raises(InputError, match="may load or execute"):
            refuse_untrusted({"model": {"_target_": target}}, ("pandas", "joblib", "sklearn"), no)


def test_no_package_at_all_is_none_that_is_trusted():
    with pytest.raises(InputError, match="may load or execute"):
        refuse_untrusted({"model": {"_target_": "json.__name__"}}, ("json", ""), no)


def test_a_module_of_the_working_directory_is_asked_for_once(tmp_path, monkeypatch):
    (tmp_path / "my_net_of_trust.py").write_text("class Net:\n    pass\nclass Loss:\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = {"model": {"_target_": "my_net_of_trust.Net"}, "loss": {"_target_": "my_net_of_trust.Loss"}}
    asked = []

    def yes(question: str) -> bool:
        asked.append(question)
        return True

    refuse_untrusted(config, (), yes)

    assert len(asked) == 1
    assert "my_net_of_trust" in asked[0]
    with pytest.raises(InputError, match="--trust my_net_of_trust"):
        refuse_untrusted(config, (), no)
